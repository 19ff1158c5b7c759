import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { builtProgram, compile, type Report, recipeFolder } from "./build.ts";
import { cached } from "./cache.ts";
import { OfflineError } from "./errors.ts";
import { findGo } from "./go-toolchain.ts";
import { lastLines, run } from "./process.ts";
import { goRecipes } from "./recipes.ts";

const recipe = goRecipes.controlPlane;

export type ControlPlaneProgram = keyof typeof recipe.programs | "kwok";

/** Controllers that come with objects of their own: the module of each, and its folders of definitions and webhooks. */
const installed = {
  jobset: { module: "sigs.k8s.io/jobset", folders: ["config/default"] },
  kueue: { module: "sigs.k8s.io/kueue", folders: ["config/default"] },
  // Its whole installation would bring a JobSet of its own along.
  trainer: { module: "github.com/kubeflow/trainer/v2", folders: ["manifests/base/crds", "manifests/base/webhook"] },
} as const;

export interface ControlPlane {
  /** The path of each program. */
  readonly programs: Readonly<Record<ControlPlaneProgram, string>>;
  /** A file of YAML documents for each controller: all that its release installs. */
  readonly manifests: Readonly<Record<keyof typeof installed, string>>;
}

const manifestOf = (folder: string, name: string) => join(folder, `${name}.yaml`);

/** Renders a module's own kustomization, as its releases are made. */
async function writeManifests(cacheDir: string, folder: string, report: Report): Promise<void> {
  const go = await findGo(cacheDir, report);
  const env = { ...process.env, ...go.env, GOFLAGS: "", GOWORK: "off" };
  for (const [name, { module, folders }] of Object.entries(installed)) {
    const found = await run(go.command, ["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module], {
      cwd: recipe.module,
      env,
    });
    const documents: string[] = [];
    for (const source of folders) {
      const made = await run(join(folder, "kubectl"), ["kustomize", join(found.output.trim(), source)]);
      if (found.code !== 0 || made.code !== 0) {
        throw new OfflineError({
          cause: "broken",
          what: `the objects that ${module} installs could not be rendered`,
          why: lastLines(found.code === 0 ? made.output : found.output),
          remedy: "run `go clean -modcache`, then this again",
        });
      }
      documents.push(made.output);
    }
    await writeFile(manifestOf(folder, name), documents.join("---\n"));
  }
}

/** A control plane of Kubernetes with JobSet, Kueue, Kubeflow Trainer and KWOK, built from Go modules when the cache has none. */
export async function ensureControlPlane(cacheDir: string, report: Report): Promise<ControlPlane> {
  const kwok = await builtProgram(goRecipes.kwok, cacheDir, report);
  const folder = await cached(cacheDir, await recipeFolder(recipe), async (aside) => {
    await compile(recipe, cacheDir, aside, report);
    await writeManifests(cacheDir, aside, report);
  });
  const program = (name: keyof typeof recipe.programs) => join(folder, name);
  return {
    programs: {
      etcd: program("etcd"),
      "kube-apiserver": program("kube-apiserver"),
      "kube-controller-manager": program("kube-controller-manager"),
      "kube-scheduler": program("kube-scheduler"),
      kubectl: program("kubectl"),
      jobset: program("jobset"),
      kueue: program("kueue"),
      trainer: program("trainer"),
      kwok,
    },
    manifests: {
      jobset: manifestOf(folder, "jobset"),
      kueue: manifestOf(folder, "kueue"),
      trainer: manifestOf(folder, "trainer"),
    },
  };
}

/** Programs that judge objects as text, without a cluster. */
export interface ObjectCheckers {
  /** The path of each. */
  readonly kubeconform: string;
  readonly kubeScore: string;
}

/** kubeconform and kube-score, built from Go modules when the cache has none. */
export async function ensureObjectCheckers(cacheDir: string, report: Report): Promise<ObjectCheckers> {
  return {
    kubeconform: await builtProgram(goRecipes.kubeconform, cacheDir, report),
    kubeScore: await builtProgram(goRecipes.kubeScore, cacheDir, report),
  };
}
