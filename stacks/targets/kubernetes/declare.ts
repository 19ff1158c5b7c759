import { readFileSync } from "node:fs";
import * as pulumi from "@pulumi/pulumi";
import { ClusterError, readKubeconfig } from "../../../k8s/access.ts";
import { readFiles } from "../../../k8s/files.ts";
import type { ClusterLayout } from "../../../k8s/layout.ts";
import { type ClusterFacts, lookAtCluster } from "../../../k8s/look.ts";
import { runObjectName } from "../../../k8s/names.ts";
import { askedOf, examineCluster, imageOfSameRun, problemsOf } from "../../../k8s/needs.ts";
import { type KubernetesOutputs, planOutputs } from "../../outputs.ts";
import type { Plan } from "../../plan/types.ts";
import type { InputsOf } from "../../settings/load.ts";
import { SettingsError } from "../../settings/problems.ts";
import { clusterLayout, clusterPlace } from "./layout.ts";
import { clusterProblems } from "./problems.ts";
import { KubernetesStack } from "./stack.ts";

/**
 * Declares a plan in a cluster that is there already, after a look at it.
 * @throws SettingsError for what Kubernetes cannot do (data too large for a config map, an interval that no clock has), what
 * the cluster lacks, and a run in progress that would be replaced.
 */
export async function declareKubernetesStack(inputs: InputsOf<"kubernetes">, plan: Plan): Promise<object> {
  const { kubeconfig, context, registry } = inputs.settings.kubernetes;
  const problems = clusterProblems(inputs, plan, readFiles);
  if (problems.length > 0) throw new SettingsError(problems);
  const layout = clusterLayout(inputs);
  const facts = await look(inputs, plan, layout);
  const stack = new KubernetesStack("tunestack", {
    plan: withRunImage(plan, facts === undefined ? undefined : imageOfSameRun(plan, layout, facts)),
    layout,
    projectDir: inputs.projectDir,
    cluster: { kubeconfig, context },
    registry,
    secret: (file) => pulumi.secret(readFileSync(file, "utf8").trim()),
    files: readFiles,
  });
  const known: Omit<KubernetesOutputs, "images"> = {
    ...planOutputs(plan, {
      container: (name) => (plan.run?.workload.name === name ? runObjectName(plan.run.run) : name),
      volume: (name) => name.replaceAll("_", "-"),
    }),
    target: "kubernetes",
    cluster: clusterPlace(inputs),
  };
  return { ...known, images: stack.images };
}

/** What the cluster holds; undefined in a preview without a way there, as where a pull request is previewed. */
async function look(
  inputs: InputsOf<"kubernetes">,
  plan: Plan,
  layout: ClusterLayout,
): Promise<ClusterFacts | undefined> {
  let facts: ClusterFacts;
  try {
    facts = await lookAtCluster(readKubeconfig(inputs.settings.kubernetes), askedOf(layout));
  } catch (error) {
    if (!(error instanceof ClusterError)) throw error;
    if (!pulumi.runtime.isDryRun()) throw new SettingsError([error.problem], "cluster");
    const { path, reason, remedy } = error.problem;
    await pulumi.log.warn(`${path}: ${reason}; what it lacks is told by an update → ${remedy}`);
    return undefined;
  }
  const findings = examineCluster(plan, layout, facts);
  const wrong = problemsOf(findings, "wrong");
  if (wrong.length > 0) throw new SettingsError(wrong, "cluster");
  for (const { path, reason, remedy } of problemsOf(findings, "doubt"))
    await pulumi.log.warn(`${path}: ${reason} → ${remedy}`);
  return facts;
}

/** A run keeps the image that it was started with: docs/adr/0004-a-run-keeps-its-image.md. */
function withRunImage(plan: Plan, reference: string | undefined): Plan {
  if (plan.run === undefined || reference === undefined) return plan;
  const workload = { ...plan.run.workload, image: { kind: "registry", reference } as const };
  return { ...plan, run: { ...plan.run, workload } };
}
