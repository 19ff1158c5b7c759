import type { RawSettings } from "../../stacks/settings/layers.ts";
import { hasTarget, type InputsOf, type SecretName, type StackInputs } from "../../stacks/settings/load.ts";
import type { Located } from "../../stacks/settings/located.ts";
import type { MachineFacts } from "../../stacks/settings/machine.ts";
import { type Problem, SettingsError } from "../../stacks/settings/problems.ts";
import { resolveSettings } from "../../stacks/settings/resolve.ts";

export const CPU_MACHINE: MachineFacts = {
  schema: 1,
  checkedAt: "2026-11-23T00:00:00.000Z",
  accelerator: "cpu",
  unreachableRegistries: [],
};

export const CUDA_MACHINE: MachineFacts = { ...CPU_MACHINE, accelerator: "cuda" };

/** Behind a closed network: the base image was made here, and Docker's registry does not answer. */
export const CLOSED_MACHINE: MachineFacts = {
  ...CPU_MACHINE,
  baseImage: "tunestack/base:bookworm-0123456789ab",
  unreachableRegistries: ["registry-1.docker.io"],
};

export interface InputChanges {
  /** As in a stack file, over the least that a stack needs: the preset `rehearsal`. */
  readonly settings?: RawSettings;
  readonly machine?: MachineFacts;
  readonly data?: Located;
  readonly model?: Located;
  readonly template?: Located;
  readonly secrets?: readonly SecretName[];
  readonly stack?: string;
}

/** What a stack is declared from, without a file being read. */
export function stackInputs(changes: InputChanges = {}): StackInputs {
  const layers = [
    { source: "Pulumi.dev.yaml", values: { training: { preset: "rehearsal" } } },
    { source: "test", values: changes.settings ?? {} },
  ];
  const stack = changes.stack ?? "dev";
  return {
    stack,
    projectDir: "/project",
    ...resolveSettings(layers),
    machine: changes.machine ?? CPU_MACHINE,
    data: changes.data ?? { kind: "host", path: "/project/examples/data/tunestack-help.jsonl", exists: true },
    model: changes.model,
    template: changes.template,
    secretFiles: Object.fromEntries(
      (changes.secrets ?? []).map((name) => [name, `/project/.tunestack/secrets/${stack}/${name}`]),
    ),
  };
}

/** The problems that a call reports; fails where it reports none. */
export function problemsOf(call: () => unknown): readonly Problem[] {
  try {
    call();
  } catch (error) {
    if (error instanceof SettingsError) return error.problems;
    throw error;
  }
  throw new Error("no problem was reported");
}

/** The block of a target in Google Cloud with all that has no default. */
export const GCP: RawSettings = {
  project: "team-ml",
  access: ["group:ml@example.com"],
  budget: { monthly: 200.5, billingAccount: "012345-6789AB-CDEF01" },
};

/** What a stack of the target `gcp-vm` is declared from: the machine that it is declared on offers nothing. */
export function gcpInputs({
  gcp = {},
  ...changes
}: InputChanges & { readonly gcp?: RawSettings } = {}): InputsOf<"gcp-vm"> {
  const settings = { target: "gcp-vm", ...changes.settings, gcp: { ...GCP, ...gcp } };
  const inputs = stackInputs({ machine: CLOSED_MACHINE, stack: "prod", ...changes, settings });
  if (hasTarget(inputs, "gcp-vm")) return inputs;
  throw new Error("the target is another");
}

/** What a stack of the target `kubernetes` is declared from. */
export function kubernetesInputs({
  kubernetes = {},
  ...changes
}: InputChanges & { readonly kubernetes?: RawSettings } = {}): InputsOf<"kubernetes"> {
  const block = { registry: "registry.example.com/ml", ...kubernetes };
  const settings = { target: "kubernetes", ...changes.settings, kubernetes: block };
  const inputs = stackInputs({ machine: CLOSED_MACHINE, stack: "team", ...changes, settings });
  if (hasTarget(inputs, "kubernetes")) return inputs;
  throw new Error("the target is another");
}

/** What a stack of the target `gke` is declared from. */
export function gkeInputs({
  gke = {},
  ...changes
}: InputChanges & { readonly gke?: RawSettings } = {}): InputsOf<"gke"> {
  const settings = { target: "gke", ...changes.settings, gke: { ...GCP, ...gke } };
  const inputs = stackInputs({ machine: CLOSED_MACHINE, stack: "prod", ...changes, settings });
  if (hasTarget(inputs, "gke")) return inputs;
  throw new Error("the target is another");
}
