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
  kubernetesPlugin: "4.34.2",
  buildx: "0.35.0",
  compose: "2.40.3",
  kubernetes: "1.35.4",
  kwok: "0.7.0",
  kubeconform: "0.6.7",
  kubeScore: "1.20.0",
  /** The Go toolchain that is fetched where there is none. */
  go: "1.26.6",
  /** The oldest Go that builds the modules below; from 1.21 on, Go fetches a newer one by itself. */
  goAtLeast: "1.26.0",
  goThatUpdatesItself: "1.21.0",
} as const;

/** One program or several, built at once from the Go modules that one module of ours names. */
export interface GoRecipe {
  readonly what: string;
  readonly title: string;
  readonly version: string;
  /** The module of ours that names the programs and, with its sums, every module they are built from. */
  readonly module: string;
  /** The package that each program is built from, by the program's name. */
  readonly programs: Readonly<Record<string, string>>;
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
    programs: { pulumi: "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi" },
    variables: { "github.com/pulumi/pulumi/sdk/v3/go/common/version.Version": `v${versions.pulumi}` },
    packages: 1640,
  },
  dockerBuildPlugin: {
    what: "docker-build-plugin",
    title: "the Pulumi plugin docker-build",
    version: versions.dockerBuildPlugin,
    module: join(offlineFolder, "go", "docker-build"),
    programs: {
      "pulumi-resource-docker-build": "github.com/pulumi/pulumi-docker-build/provider/cmd/pulumi-resource-docker-build",
    },
    variables: { "github.com/pulumi/pulumi-docker-build/provider.Version": versions.dockerBuildPlugin },
    packages: 1750,
  },
  buildx: {
    what: "buildx",
    title: "Docker's buildx",
    version: versions.buildx,
    module: join(offlineFolder, "go", "buildx"),
    programs: { "docker-buildx": "github.com/docker/buildx/cmd/buildx" },
    variables: { "github.com/docker/buildx/version.Version": `v${versions.buildx}` },
    packages: 1410,
  },
  controlPlane: {
    what: "control-plane",
    title: "a Kubernetes control plane",
    version: versions.kubernetes,
    module: join(offlineFolder, "go", "control-plane"),
    // All in one build: nine tenths of their packages are the same.
    programs: {
      etcd: "go.etcd.io/etcd/server/v3",
      "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
      "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
      "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
      kubectl: "k8s.io/kubernetes/cmd/kubectl",
      jobset: "sigs.k8s.io/jobset",
      kueue: "sigs.k8s.io/kueue/cmd/kueue",
      trainer: "github.com/kubeflow/trainer/v2/cmd/trainer-controller-manager",
    },
    variables: {
      "k8s.io/component-base/version.gitVersion": `v${versions.kubernetes}`,
      "k8s.io/client-go/pkg/version.gitVersion": `v${versions.kubernetes}`,
    },
    packages: 2970,
  },
  // Apart from the control plane: it does not compile with the same Kubernetes.
  kwok: {
    what: "kwok",
    title: "KWOK",
    version: versions.kwok,
    module: join(offlineFolder, "go", "kwok"),
    programs: { kwok: "sigs.k8s.io/kwok/cmd/kwok" },
    variables: {},
    packages: 1000,
  },
  kubeconform: {
    what: "kubeconform",
    title: "kubeconform",
    version: versions.kubeconform,
    module: join(offlineFolder, "go", "kubeconform"),
    programs: { kubeconform: "github.com/yannh/kubeconform/cmd/kubeconform" },
    variables: {},
    packages: 210,
  },
  kubeScore: {
    what: "kube-score",
    title: "kube-score",
    version: versions.kubeScore,
    module: join(offlineFolder, "go", "kube-score"),
    programs: { "kube-score": "github.com/zegl/kube-score/cmd/kube-score" },
    variables: { "main.version": versions.kubeScore },
    packages: 330,
  },
  compose: {
    what: "compose",
    title: "Docker Compose",
    version: versions.compose,
    module: join(offlineFolder, "go", "compose"),
    programs: { "docker-compose": "github.com/docker/compose/v2/cmd" },
    variables: { "github.com/docker/compose/v2/internal.Version": `v${versions.compose}` },
    packages: 1030,
  },
} as const satisfies Record<string, GoRecipe>;
