import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder of this file: what is built here is found relative to it, wherever the clone is. */
export const offlineFolder = fileURLToPath(new URL(".", import.meta.url));

/** The one place where versions of what set-up installs are pinned; the same ones are asked of the official hosts. */
export const versions = {
  pulumi: "3.250.0",
  dockerBuildPlugin: "0.0.22",
  dockerPlugin: "5.0.0",
  gcpPlugin: "9.37.0",
  buildx: "0.35.0",
  /** The Go toolchain that is fetched where there is none. */
  go: "1.26.6",
  /** The oldest Go that builds the modules below; from 1.21 on, Go fetches a newer one by itself. */
  goAtLeast: "1.26.0",
  goThatUpdatesItself: "1.21.0",
} as const;

/** A program that is built from its Go module. */
export interface GoRecipe {
  readonly what: string;
  readonly title: string;
  readonly version: string;
  /** The module of ours that names the program and, with its sums, every module it is built from. */
  readonly module: string;
  readonly package: string;
  readonly binary: string;
  /** `-X` settings: a program that doesn't know its version reports a wrong one. */
  readonly variables: Readonly<Record<string, string>>;
  /** How many packages are compiled when nothing is cached; only for the progress line. */
  readonly packages: number;
}

export const goRecipes = {
  pulumi: {
    what: "pulumi",
    title: "the Pulumi CLI",
    version: versions.pulumi,
    module: join(offlineFolder, "go", "pulumi"),
    package: "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
    binary: "pulumi",
    variables: { "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version": `v${versions.pulumi}` },
    packages: 1640,
  },
  dockerBuildPlugin: {
    what: "docker-build-plugin",
    title: "the Pulumi plugin docker-build",
    version: versions.dockerBuildPlugin,
    module: join(offlineFolder, "go", "docker-build"),
    package: "github.com/pulumi/pulumi-docker-build/provider/cmd/pulumi-resource-docker-build",
    binary: "pulumi-resource-docker-build",
    variables: { "github.com/pulumi/pulumi-docker-build/provider.Version": versions.dockerBuildPlugin },
    packages: 1750,
  },
  buildx: {
    what: "buildx",
    title: "Docker's buildx",
    version: versions.buildx,
    module: join(offlineFolder, "go", "buildx"),
    package: "github.com/docker/buildx/cmd/buildx",
    binary: "docker-buildx",
    variables: { "github.com/docker/buildx/version.Version": `v${versions.buildx}` },
    packages: 1410,
  },
} as const satisfies Record<string, GoRecipe>;
