import { readFileSync } from "node:fs";
import * as pulumi from "@pulumi/pulumi";
import { readFiles } from "../../../k8s/files.ts";
import { runObjectName } from "../../../k8s/names.ts";
import { type KubernetesOutputs, planOutputs } from "../../outputs.ts";
import type { Plan } from "../../plan/types.ts";
import type { InputsOf } from "../../settings/load.ts";
import { SettingsError } from "../../settings/problems.ts";
import { clusterLayout } from "./layout.ts";
import { clusterProblems } from "./problems.ts";
import { KubernetesStack } from "./stack.ts";

/**
 * Declares a plan in a cluster that is there already.
 * @throws SettingsError for what Kubernetes cannot do: data too large for a config map, an interval that no clock has.
 */
export async function declareKubernetesStack(inputs: InputsOf<"kubernetes">, plan: Plan): Promise<object> {
  const { kubeconfig, context, registry } = inputs.settings.kubernetes;
  const problems = clusterProblems(inputs, plan, readFiles);
  if (problems.length > 0) throw new SettingsError(problems);
  const layout = clusterLayout(inputs);
  const stack = new KubernetesStack("tunestack", {
    plan,
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
    cluster: {
      namespace: layout.namespace,
      ...(kubeconfig === undefined ? {} : { kubeconfig }),
      ...(context === undefined ? {} : { context }),
    },
  };
  return { ...known, images: stack.images };
}
