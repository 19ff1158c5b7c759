import * as pulumi from "@pulumi/pulumi";
import { makePlan } from "./stacks/plan/plan.ts";
import { loadStack, ofTarget, type StackInputs } from "./stacks/settings/load.ts";
import { SettingsError } from "./stacks/settings/problems.ts";

/** The stack, whatever its target: settings → plan → target → outputs. */
async function declareStack(): Promise<object> {
  const inputs = loadStack({
    projectDir: process.cwd(),
    stack: pulumi.getStack(),
    environment: process.env,
    pulumiConfig: pulumi.runtime.allConfig(),
  });
  return await declareTarget(inputs);
}

async function declareTarget(inputs: StackInputs): Promise<object> {
  const plan = makePlan(inputs);
  switch (inputs.settings.target) {
    case "docker": {
      const { declareDockerStack } = await import("./stacks/targets/docker/declare.ts");
      return await declareDockerStack(ofTarget(inputs, "docker"), plan);
    }
    case "gcp-vm": {
      const { declareGcpVmStack } = await import("./stacks/targets/gcp-vm/declare.ts");
      return await declareGcpVmStack(ofTarget(inputs, "gcp-vm"), plan);
    }
    case "kubernetes": {
      const { declareKubernetesStack } = await import("./stacks/targets/kubernetes/declare.ts");
      return await declareKubernetesStack(ofTarget(inputs, "kubernetes"), plan);
    }
    case "gke": {
      const { declareGkeStack } = await import("./stacks/targets/gke/declare.ts");
      return await declareGkeStack(ofTarget(inputs, "gke"), plan);
    }
  }
}

/** A person's mistake is told in full and without a stack trace. */
async function declareOrExplain(): Promise<object> {
  try {
    return await declareStack();
  } catch (error) {
    if (error instanceof SettingsError) throw withoutStack(new pulumi.RunError(error.message));
    throw error;
  }
}

/** Pulumi formats an error with its stack even where it shows the message alone, which takes Node 20 half a minute. */
function withoutStack(error: Error): Error {
  error.stack = "";
  return error;
}

export const tunestack = await declareOrExplain();
