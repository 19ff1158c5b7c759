import { basename } from "node:path";
import { SAMPLE_DATA } from "../settings/defaults.ts";
import { gpuNodeFacts } from "../settings/gke-machines.ts";
import { NODE_GPU_NAMES, NODE_GPUS } from "../settings/gpu-nodes.ts";
import { BF16_CAPABILITY, GPU_TYPE_NAMES, GPU_TYPES, type GpuTypeName } from "../settings/gpu-types.ts";
import type { StackInputs } from "../settings/load.ts";
import type { Located } from "../settings/located.ts";
import { type PresetName, presetFacts } from "../settings/presets.ts";
import type { Problem } from "../settings/problems.ts";
import type { Settings } from "../settings/schema.ts";
import { gpuEnvironment, healthOf, SCRATCH, secretMounts } from "./services.ts";
import type { Mount, RunPlan, Workload } from "./types.ts";
import { mountVolume } from "./volumes.ts";

const TEMPLATE_PATH = "/template.jinja";

/** The run that the settings describe, as a container that starts, trains and exits. */
export function planRun(inputs: StackInputs, accelerator: "cuda" | "cpu"): RunPlan {
  const { settings, secretFiles } = inputs;
  const { training } = settings;
  const cuda = accelerator === "cuda";
  const data = mountLocated(inputs.data, dataPath(inputs.data), (id) => `hub:${id}`);
  const model = inputs.model === undefined ? undefined : mountLocated(inputs.model, "/model", (id) => id);
  const template = inputs.template === undefined ? undefined : mountLocated(inputs.template, TEMPLATE_PATH, (id) => id);
  const set = template === undefined ? training.set : { ...training.set, chat_template: template.argument };
  return {
    run: training.run,
    preset: training.preset,
    model: training.model,
    data: training.data ?? SAMPLE_DATA,
    replaceRunning: training.replaceRunning,
    workload: {
      name: "qlora-training",
      image: { kind: "stage", stage: "training" },
      command: [
        "tunestack-train",
        "run",
        `--name=${training.run}`,
        ...(training.preset === undefined ? [] : [`--preset=${training.preset}`]),
        ...(model === undefined ? [] : [`--model=${model.argument}`]),
        `--data=${data.argument}`,
        ...Object.entries(set).map(([key, value]) => `--set=${key}=${value}`),
      ],
      environment: {
        ...gpuEnvironment(cuda),
        TUNESTACK_RUN: training.run,
        ...(training.commit === undefined ? {} : { TUNESTACK_GIT_COMMIT: training.commit }),
      },
      mounts: [
        mountVolume("training_models_cache"),
        mountVolume("training_checkpoints"),
        mountVolume("training_logs"),
        ...data.mounts,
        ...(model?.mounts ?? []),
        ...(template?.mounts ?? []),
        ...secretMounts(secretFiles, ["hf-token", "wandb-api-key", "webhook-url"]),
      ],
      ports: [],
      scratch: SCRATCH,
      gpu: cuda ? "all" : "none",
      memoryBytes: training.memory,
      sharedMemoryBytes: training.sharedMemory,
      processLimit: 16384,
      // Loading a large model for the first time downloads it.
      health: healthOf("training", { startSeconds: 3600 }),
      restart: "on-failure",
      // Engines count whole seconds.
      stopGraceSeconds: Math.ceil(training.stopGrace),
      user: "1000:1000",
      readOnly: true,
      browse: undefined,
      reaches: ["internet", "wandb-local"],
    },
  };
}

/**
 * The export of a run, as a container that does it and ends: hardened and provided for as the run's own.
 * @param request arguments of `tunestack-train export`.
 * @param base folder of this machine with the base model, where it is not the settings' own.
 */
export function planExport(
  inputs: StackInputs,
  accelerator: "cuda" | "cpu",
  request: readonly string[],
  base: string | undefined,
): Workload {
  const { workload } = planRun(inputs, accelerator);
  const wanted = ["/models/cache", "/checkpoints", "/model", "/run/secrets/hf-token"];
  const kept = workload.mounts.filter(
    ({ path }) => wanted.includes(path) && !(path === "/model" && base !== undefined),
  );
  return {
    ...workload,
    command: ["tunestack-train", "export", ...request, ...(base === undefined ? [] : ["--base=/model"])],
    environment: gpuEnvironment(accelerator === "cuda"),
    mounts: [
      ...kept,
      ...(base === undefined ? [] : [{ kind: "host", source: base, path: "/model" } as const]),
      mountVolume("training_models_gguf"),
    ],
  };
}

/** What can be said about the run before anything is built. */
export function runProblems(inputs: StackInputs, accelerator: "cuda" | "cpu"): readonly Problem[] {
  const { data, model, template } = inputs;
  const { training } = inputs.settings;
  const problems: Problem[] = [];
  if (data.kind === "host" && !data.exists) {
    problems.push({
      path: "training.data",
      value: data.path,
      reason: "there is no such file or folder",
      remedy:
        "give the path of a JSONL, JSON, CSV or Parquet file, of a folder of them, or hub:ID for a Hugging Face data set",
    });
  }
  if (model?.kind === "host" && !model.exists) {
    problems.push({
      path: "training.model",
      value: model.path,
      reason: "there is no such folder",
      remedy: "give the folder of a Hugging Face model, or the id of one, such as google/gemma-2-2b",
    });
  }
  if (template?.kind === "host" && !template.exists) {
    problems.push({
      path: "training.set.chat_template",
      value: template.path,
      reason: "there is no such file",
      remedy: "give the path of a Jinja file that renders a conversation, or auto for the tokenizer's own template",
    });
  }
  if (training.preset !== undefined && training.model === undefined)
    problems.push(...presetProblems(inputs, accelerator));
  return problems;
}

function presetProblems(
  { settings, secretFiles, stack }: StackInputs,
  accelerator: "cuda" | "cpu",
): readonly Problem[] {
  const { preset } = settings.training;
  if (preset === undefined) return [];
  const facts = presetFacts(preset);
  const problems: Problem[] = [];
  if (facts.gpuMemoryGiB > 0 && accelerator === "cpu") {
    problems.push({
      path: "training.preset",
      value: preset,
      reason: `needs an NVIDIA GPU with ${facts.gpuMemoryGiB} GiB of memory, and this machine offers none to containers`,
      remedy:
        "npm run doctor says what is missing; npm run train-custom -- --preset rehearsal trains a tiny model on the CPU",
    });
  }
  problems.push(...rentedGpuProblems(settings, preset));
  if (facts.gated && secretFiles["hf-token"] === undefined) {
    problems.push({
      path: "training.preset",
      value: preset,
      reason: `${facts.model} is gated, and no Hugging Face token is set`,
      remedy: `accept the licence at https://huggingface.co/${facts.model}, make a token at https://huggingface.co/settings/tokens, and type: HF_TOKEN=… npm run train-${preset}${stack === "dev" ? "" : ` -- --stack ${stack}`}`,
    });
  }
  return problems;
}

/** Each kind of GPU that a run may get has to do, since nobody chooses which of them it will be. */
function rentedGpuProblems(settings: Settings, preset: PresetName): readonly Problem[] {
  const { gpuMemoryGiB } = presetFacts(preset);
  return possibleGpus(settings).flatMap(({ path, gpu, facts, list, known }): readonly Problem[] => {
    const { memoryGiB, computeCapability } = facts;
    const at = { path, value: gpu };
    const remedy = `take it out of ${list}, or choose another preset; the GPUs are ${known.join(", ")}`;
    const precision = settings.training.set.precision ?? "bf16";
    if (memoryGiB < gpuMemoryGiB)
      return [
        { ...at, reason: `has ${memoryGiB} GiB of memory, and the preset ${preset} needs ${gpuMemoryGiB}`, remedy },
      ];
    if (gpuMemoryGiB > 0 && precision === "bf16" && computeCapability < BF16_CAPABILITY)
      return [{ ...at, reason: `cannot compute in bf16, in which the preset ${preset} trains`, remedy }];
    return [];
  });
}

interface PossibleGpu {
  /** Where the settings name it. */
  readonly path: string;
  readonly list: string;
  readonly gpu: string;
  readonly facts: { readonly memoryGiB: number; readonly computeCapability: number };
  readonly known: readonly string[];
}

/** The kinds of GPU elsewhere that the settings let a run have; none where it is this machine's own. */
function possibleGpus(settings: Settings): readonly PossibleGpu[] {
  switch (settings.target) {
    case "docker":
      return [];
    case "gcp-vm":
      return settings.gcp.gpus.map((gpu, index) => ({
        path: `gcp.gpus[${index}]`,
        list: "gcp.gpus",
        gpu,
        facts: GPU_TYPES[gpu],
        known: GPU_TYPE_NAMES,
      }));
    case "kubernetes":
      return settings.kubernetes.queue.pools.flatMap(({ gpu }, index) =>
        gpu === "none"
          ? []
          : [
              {
                path: `kubernetes.queue.pools[${index}].gpu`,
                list: "kubernetes.queue.pools",
                gpu,
                facts: NODE_GPUS[gpu],
                known: NODE_GPU_NAMES,
              },
            ],
      );
    case "gke":
      return settings.gke.queue.pools.flatMap(({ gpu, partition, sharing }, index) =>
        gpu === "none"
          ? []
          : [
              {
                path: `gke.queue.pools[${index}].gpu`,
                list: "gke.queue.pools",
                gpu,
                facts: { ...GPU_TYPES[gpu], memoryGiB: shareOfMemory(gpu, partition, sharing?.clients) },
                known: GPU_TYPE_NAMES,
              },
            ],
      );
  }
}

/** Memory that a run can count on, of a GPU that it has alone, of a part of one, or of one that it shares. */
function shareOfMemory(gpu: GpuTypeName, partition: string | undefined, clients = 1): number {
  const whole = partition === undefined ? undefined : gpuNodeFacts(gpu).partitions[partition]?.memoryGiB;
  return Math.floor((whole ?? GPU_TYPES[gpu].memoryGiB) / clients);
}

/** A thing on this machine is mounted read-only and named by its path in the container; an id goes as it is. */
function mountLocated(
  located: Located,
  path: string,
  hubArgument: (id: string) => string,
): { readonly argument: string; readonly mounts: readonly Mount[] } {
  switch (located.kind) {
    case "hub":
      return { argument: hubArgument(located.id), mounts: [] };
    case "host":
      return { argument: path, mounts: [{ kind: "host", source: located.path, path }] };
  }
}

/** The file's own name is kept, since its ending tells the format. */
function dataPath(data: Located): string {
  return data.kind === "host" ? `/data/${basename(data.path)}` : "/data";
}
