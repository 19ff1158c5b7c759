import type { PreviewedResource, Rule } from "./types.ts";
import { isTree, treesIn } from "./values.ts";

const RULE = "gpu-without-budget";

/** Machine families of Google Cloud that have GPUs built in: A2, A3, A4, G2, G4. */
const GPU_MACHINE = /(^|\/)(a[234]x?|g[24])-/;

const MACHINES =
  /^gcp:(compute\/(instance|instanceTemplate|regionInstanceTemplate|regionInstanceGroupManager|instanceGroupManager)|container\/(nodePool|cluster)|colab\/runtimeTemplate):/;

/** A rented GPU has a budget beside it, whose alerts somebody reads. */
export const gpuWithoutBudget: Rule = {
  name: RULE,
  demands: "a stack that rents GPUs declares a budget",
  check: (resources) => {
    const kept = resources.filter(({ operation }) => operation !== "delete");
    if (kept.some(({ type }) => type === "gcp:billing/budget:Budget")) return [];
    return kept.filter(rentsGpu).map(({ name }) => ({
      rule: RULE,
      path: name,
      reason: "rents a GPU, and the stack has no budget that would tell when it costs more than was meant",
      remedy: "declare a gcp.billing.Budget with alerts in the same stack",
    }));
  },
};

function rentsGpu({ type, inputs }: PreviewedResource): boolean {
  return MACHINES.test(type) && asksForGpu(inputs);
}

function asksForGpu(value: unknown): boolean {
  if (typeof value === "string") return GPU_MACHINE.test(value);
  if (Array.isArray(value)) return value.some(asksForGpu);
  if (!isTree(value)) return false;
  // Vertex AI names one GPU beside the machine.
  if (typeof value.acceleratorType === "string" && value.acceleratorType !== "") return true;
  const attached = [...treesIn(value.guestAccelerators), ...treesIn(value.accelerators)];
  if (attached.some(({ count, acceleratorCount }) => (count ?? acceleratorCount ?? 1) !== 0)) return true;
  const within = [
    "machineType",
    "machineTypes",
    "machineSpec",
    "nodeConfig",
    "instanceFlexibilityPolicy",
    "instanceSelections",
  ];
  return within.some((name) => asksForGpu(value[name]));
}
