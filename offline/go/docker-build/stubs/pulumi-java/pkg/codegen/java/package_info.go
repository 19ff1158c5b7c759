// Package java holds the one type of the Java code generator that the docker-build provider names in its schema. The
// schema is only read when SDKs are generated, which this build never does; the original module is not published to the
// module proxies.
package java

// PackageInfo mirrors the fields that are set by the provider.
type PackageInfo struct {
	BuildFiles                      string            `json:"buildFiles,omitempty"`
	GradleNexusPublishPluginVersion string            `json:"gradleNexusPublishPluginVersion,omitempty"`
	Dependencies                    map[string]string `json:"dependencies,omitempty"`
}
