import { readFileSync } from "node:fs";
import * as pulumi from "@pulumi/pulumi";
import { readFiles } from "../../../k8s/files.ts";
import { claimName, runObjectName } from "../../../k8s/names.ts";
import { type GkeOutputs, planOutputs } from "../../outputs.ts";
import type { Plan } from "../../plan/types.ts";
import type { InputsOf } from "../../settings/load.ts";
import { SettingsError } from "../../settings/problems.ts";
import { cloudAccounts } from "./accounts.ts";
import { gkeLayout } from "./layout.ts";
import { clusterNames, contextName } from "./names.ts";
import { gkeProblems } from "./problems.ts";
import { GkeStack } from "./stack.ts";

/**
 * Declares a cluster in Google Cloud and a plan in it.
 * @throws SettingsError for what neither can do: a run that fits on none of its nodes, a zone without the GPU.
 */
export async function declareGkeStack(inputs: InputsOf<"gke">, plan: Plan): Promise<object> {
  const { gke } = inputs.settings;
  const names = clusterNames(inputs);
  const problems = gkeProblems(inputs, plan, readFiles);
  if (problems.length > 0) throw new SettingsError(problems);
  const layout = gkeLayout(inputs, plan, names);
  const stack = new GkeStack("tunestack", {
    names,
    settings: gke,
    plan,
    layout,
    accounts: cloudAccounts(plan, gke, names),
    projectDir: inputs.projectDir,
    secret: (file) => pulumi.secret(readFileSync(file, "utf8").trim()),
    files: readFiles,
  });
  const known: Omit<GkeOutputs, "images"> = {
    ...planOutputs(plan, {
      container: (name) => (plan.run?.workload.name === name ? runObjectName(plan.run.run) : name),
      volume: claimName,
    }),
    target: "gke",
    cluster: { namespace: layout.namespace, context: contextName(names) },
    cloud: {
      project: names.project,
      location: names.location,
      name: names.prefix,
      endpoint: gke.endpoint,
      bucket: names.bucket,
    },
  };
  return { ...known, images: stack.images };
}
