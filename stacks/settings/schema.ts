import { z } from "zod";
import { gcpSchema } from "./gcp.ts";
import { gkeSchema } from "./gke.ts";
import { kubernetesSchema } from "./kubernetes.ts";
import { isRecord } from "./layers.ts";
import { PRESET_NAMES, type PresetName } from "./presets.ts";
import { runSettingsSchema } from "./run-settings.ts";
import { duration, size } from "./values.ts";

const port = z.int().min(1).max(65535);

/** Run names become folder names, container labels and, later, Kubernetes names. */
const runName = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$/, {
  error: "is no run name: lower-case letters, digits and hyphens, at most 53, no hyphen at either end",
});

const service = {
  /** Left out when false. Default: true. */
  enabled: z.boolean(),
  /** Memory limit of the container. Example: `4GiB`. */
  memory: size,
};

const webService = { ...service, /** Port on 127.0.0.1. */ port };

export const servicesSchema = z.strictObject({
  jupyter: z.strictObject({
    ...webService,
    /** Accept connections from Google Colab's pages ("local runtime"). Default: false. */
    colab: z.boolean(),
    /**
     * Whether notebooks see the GPUs, where there are any. Default: true; false in a cluster, where GPUs are handed out by the
     * queue, and where true is refused.
     */
    gpu: z.boolean(),
  }),
  tensorboard: z.strictObject(webService),
  "wandb-local": z.strictObject(webService),
  "gpu-monitor": z.strictObject({ ...webService, /** Time between samples. Default: `5s`. */ interval: duration }),
  "training-backup": z.strictObject(service),
  "experiment-runner": z.strictObject({
    enabled: service.enabled,
    /** Memory limit of the container, all experiments together; undefined leaves it to the machine. */
    memory: size.optional(),
  }),
});

export const trainingSchema = z.strictObject({
  /** Name of the run; its checkpoints stand in `/checkpoints/<run>`. Example: `my-notes-2`. */
  run: runName,
  /** Layout of model and hyperparameters; overridden by `model` and `set`. */
  preset: z.enum(PRESET_NAMES as readonly [PresetName, ...PresetName[]]).optional(),
  /** A Hugging Face id, or a folder on this machine. */
  model: z.string().min(1).optional(),
  /** A file or folder on this machine, relative to the project or absolute, or a Hugging Face data set as `hub:ID`. */
  data: z.string().min(1).optional(),
  /** Any setting of `tunestack_train` by its name. Example: `{ max_steps: 200 }`. */
  set: runSettingsSchema,
  /** Memory limit of the container; undefined leaves it to the machine. */
  memory: size.optional(),
  /** Shared memory for the data loaders. */
  sharedMemory: size,
  /** Time to save a checkpoint in when the run is stopped. */
  stopGrace: duration,
  /** Git commit that the run is recorded with; `train-*` commands set it. */
  commit: z
    .string()
    .regex(/^[0-9a-f]{7,64}(-dirty)?$/, { error: "is no git commit" })
    .optional(),
  /** Replace a run that is in progress when its settings change. Default: false, which reports it as a problem. */
  replaceRunning: z.boolean(),
});

export const imageSchema = z.strictObject({
  /** Base image, by digest where one is known; `auto` takes NVIDIA's for CUDA, Debian's for a CPU. */
  base: z.string().min(1),
  /** CUDA version of the image. Default: 12.6. */
  cudaVersion: z
    .string()
    .regex(/^\d+\.\d+$/, { error: 'is no CUDA version: write major.minor in quotes, such as "12.6"' }),
  /** Index to install Python packages from; undefined takes PyPI. */
  pypiMirror: z.url().optional(),
  /** Mirror to install Debian or Ubuntu packages from; undefined takes the base image's own. */
  aptMirror: z.url().optional(),
  /** PEM file with the certificate of a proxy that intercepts TLS, trusted during the build. */
  caCertificate: z.string().min(1).optional(),
});

export const backupSchema = z.strictObject({
  /** Time between snapshots. Default: `1h`. */
  interval: duration,
  /** Time between restore drills. Default: `24h`. */
  drillInterval: duration,
  /** restic repository; undefined is the backup volume. Examples: `gs:bucket:/path`, `s3:https://host/bucket`. */
  repository: z.string().min(1).optional(),
  /** How many snapshots to keep. */
  keep: z.strictObject({
    last: z.int().min(1),
    hourly: z.int().min(0),
    daily: z.int().min(0),
    weekly: z.int().min(0),
  }),
});

/** `https://host/path`, `ssh://user@host/path`, `git@host:path`, `git://host/path`. */
const REPOSITORY_URL = /^((https?|ssh|git):\/\/[^\s/]+\/\S+|[^\s/:@]+@[^\s/:@]+:\S+)$/;
/** `https://user:secret@host`; a user's name alone is no secret. */
const CREDENTIALS_IN_URL = /^[a-z]+:\/\/([^/@\s]*:[^/@\s]*@|[^/@\s]{20,}@)/;

const repository = z.unknown().transform((given, context) => {
  if (typeof given === "string" && CREDENTIALS_IN_URL.test(given)) {
    context.addIssue({
      code: "custom",
      message: "holds a password or token, which would show in logs",
      params: {
        remedy: "take it out of the URL; GIT_TOKEN=… npm run experiment -- serve keeps it as the secret git-token",
        secret: true,
      },
    });
    return z.NEVER;
  }
  if (typeof given === "string" && REPOSITORY_URL.test(given)) return given;
  context.addIssue({
    code: "custom",
    message: "is no URL of a git repository",
    params: { remedy: "write it as https://host/owner/name.git or git@host:owner/name.git" },
  });
  return z.NEVER;
});

export const experimentsSchema = z.strictObject({
  /** Repository whose branch is the queue; the profile `experiments` needs it. Example: `git@github.com:me/work.git`. */
  repository: repository.optional(),
  /** Branch that experiments are pushed to. Default: `gpu-experiments`. */
  branch: z
    .string()
    .regex(/^(?!-)(?!.*(\.\.|\/\/|@\{|\.lock(\/|$)))[^\s~^:?*[\\]+(?<![/.])$/, { error: "is no branch name" }),
  /** Time between two looks at the branch, jittered by the runner. Default: `60s`. */
  pollInterval: duration,
  /** How many experiments that ask for no GPU run at once; those with GPUs run as GPUs are free. Default: 1. */
  cpuPlaces: z.int().min(1).max(64),
});

export const dockerSchema = z.strictObject({
  /** Engine to use; undefined is the local socket. Environment: `DOCKER_HOST`. Example: `ssh://me@gpu-box`. */
  host: z.string().min(1).optional(),
  /** Stands before every volume, container and image name, so that two stacks share a machine. Default: empty. */
  prefix: z.string().regex(/^([a-z0-9][a-z0-9-]{0,30}-)?$/, {
    error: "is no prefix: lower-case letters, digits and hyphens, ending in a hyphen, at most 32",
  }),
});

export const PROFILES = ["training", "dev", "monitor", "experiments"] as const;
export type Profile = (typeof PROFILES)[number];

const everyTarget = {
  accelerator: z.enum(["auto", "cuda", "cpu"]),
  profiles: z.array(z.enum(PROFILES)),
  image: imageSchema,
  training: trainingSchema,
  services: servicesSchema,
  backup: backupSchema,
  experiments: experimentsSchema,
};

export const settingsSchema = z
  .discriminatedUnion("target", [
    z.strictObject({ target: z.literal("docker"), ...everyTarget, docker: dockerSchema }),
    z.strictObject({ target: z.literal("gcp-vm"), ...everyTarget, gcp: gcpSchema }),
    z.strictObject({ target: z.literal("kubernetes"), ...everyTarget, kubernetes: kubernetesSchema }),
    z.strictObject({ target: z.literal("gke"), ...everyTarget, gke: gkeSchema }),
  ])
  .check(
    z.refine(({ training }) => training.preset !== undefined || training.model !== undefined, {
      path: ["training"],
      error: "names neither a preset nor a model",
      params: { remedy: `set training.preset (${PRESET_NAMES.join(", ")}) or training.model` },
      when: hasTraining,
    }),
    z.refine(({ training }) => training.preset !== undefined || training.data !== undefined, {
      path: ["training", "data"],
      error: "is missing: a model of your own needs data of your own",
      params: { remedy: "set training.data to a JSONL, JSON, CSV or Parquet file, or to a folder of them" },
      when: hasTraining,
    }),
    z.refine(({ profiles, experiments }) => !profiles.includes("experiments") || experiments.repository !== undefined, {
      path: ["experiments", "repository"],
      error: "is missing: the profile experiments takes experiments from a repository",
      params: { remedy: "npm run experiment -- serve sets it to that of your clone; or leave the profile out" },
      when: ({ value }) => isRecord(value) && Array.isArray(value.profiles) && isRecord(value.experiments),
    }),
    z.refine(({ target, services }) => services.jupyter.gpu !== true || !isCluster(target), {
      path: ["services", "jupyter", "gpu"],
      error: "is not to be had in a cluster: its queue does not know of Jupyter, which would keep the GPU from runs",
      params: {
        remedy: "set it to false, or take it out; for notebooks with a GPU take Jupyter of the desk, or Colab",
      },
      when: ({ value }) => isRecord(value) && isRecord(value.services) && isRecord(value.services.jupyter),
    }),
  );

/** These two are told together with whatever else is wrong. */
function hasTraining({ value }: { readonly value: unknown }): boolean {
  return isRecord(value) && isRecord(value.training);
}

/** Everything a person can set, checked, with sizes in bytes and times in seconds. */
export type Settings = z.output<typeof settingsSchema>;
export type TargetKind = Settings["target"];
/** The settings of one target. */
export type SettingsOf<Target extends TargetKind> = Extract<Settings, { readonly target: Target }>;
export type ServiceSettings = Settings["services"];
export type ServiceName = keyof ServiceSettings;

/** The top-level keys under `tunestack:`, whatever the target. */
export const TOP_LEVEL_KEYS: readonly string[] = [
  "target",
  ...Object.keys(everyTarget),
  "docker",
  "gcp",
  "kubernetes",
  "gke",
];

export const TARGETS: readonly TargetKind[] = ["docker", "gcp-vm", "kubernetes", "gke"];

/** Whether a target shares out its GPUs by a queue. */
function isCluster(target: TargetKind): boolean {
  switch (target) {
    case "docker":
    case "gcp-vm":
      return false;
    case "kubernetes":
    case "gke":
      return true;
  }
}

export function isTarget(value: unknown): value is TargetKind {
  return TARGETS.some((target) => target === value);
}
