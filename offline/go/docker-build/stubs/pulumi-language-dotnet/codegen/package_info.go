// Package codegen holds the one type of the .NET code generator that the docker-build provider names in its schema. The
// schema is only read when SDKs are generated, which this build never does; the original module is not published to the
// module proxies.
package codegen

// CSharpPackageInfo mirrors the fields that are set by the provider.
type CSharpPackageInfo struct {
	RespectSchemaVersion bool              `json:"respectSchemaVersion,omitempty"`
	PackageReferences    map[string]string `json:"packageReferences,omitempty"`
}
