/**
 * A stack as plain data, whatever the target: what is built, kept, served and run. Nothing of Pulumi comes here; what is
 * known only later (the digest of an image that is about to be built) is a named reference.
 */
export interface Plan {
  readonly stack: string;
  readonly image: ImagePlan;
  readonly volumes: readonly VolumePlan[];
  readonly services: readonly Workload[];
  /** The run that the stack declares; undefined without the profile `training`. */
  readonly run: RunPlan | undefined;
  /** Services that a setting or this machine leaves out, by name and with the reason. */
  readonly leftOut: readonly LeftOut[];
}

export type ImageStage = "training" | "dev" | "monitor" | "backup";

export interface ImagePlan {
  /** Base image by digest, tag, or local name. */
  readonly base: string;
  readonly cudaVersion: string;
  /** Which set of Python packages goes in: PyTorch's CUDA 12.6 build, or what a CPU needs of it. */
  readonly pythonSet: "cu126" | "cpu";
  readonly stages: readonly ImageStage[];
  readonly pypiMirror: string | undefined;
  readonly aptMirror: string | undefined;
  readonly caCertificate: string | undefined;
}

/** An image of this stack by its stage, or one from a registry. */
export type ImageReference =
  | { readonly kind: "stage"; readonly stage: ImageStage }
  | { readonly kind: "registry"; readonly reference: string };

export type VolumeName =
  | "training_models_cache"
  | "training_models_gguf"
  | "training_checkpoints"
  | "training_logs"
  | "training_backup"
  | "training_wandb";

export interface VolumePlan {
  readonly name: VolumeName;
  /** What is lost with it, for people. */
  readonly holds: string;
}

export type Mount =
  | { readonly kind: "volume"; readonly volume: VolumeName; readonly path: string; readonly readOnly: boolean }
  | { readonly kind: "host"; readonly source: string; readonly path: string }
  | { readonly kind: "secret"; readonly source: string; readonly path: string };

export interface Port {
  /** Port in the container. */
  readonly container: number;
  /** Port on 127.0.0.1 of the machine. */
  readonly host: number;
}

export interface HealthCheck {
  readonly command: readonly string[];
  readonly intervalSeconds: number;
  readonly timeoutSeconds: number;
  /** Time in which failures do not count yet. */
  readonly startSeconds: number;
  readonly retries: number;
}

export type WorkloadName =
  | "qlora-training"
  | "jupyter"
  | "tensorboard"
  | "wandb-local"
  | "gpu-monitor"
  | "training-backup"
  | "experiment-runner"
  | "experiment";

/** One container, wherever it runs. */
export interface Workload {
  readonly name: WorkloadName;
  readonly image: ImageReference;
  /** Arguments to the image's entry point; undefined takes the image's own. */
  readonly command: readonly string[] | undefined;
  readonly environment: Readonly<Record<string, string>>;
  readonly mounts: readonly Mount[];
  readonly ports: readonly Port[];
  /** Folders that the container may write to beside its volumes, in memory. */
  readonly scratch: readonly { readonly path: string; readonly bytes: number }[];
  /** `all` GPUs, `monitor` (NVML only), or none. */
  readonly gpu: "all" | "monitor" | "none";
  readonly memoryBytes: number | undefined;
  readonly sharedMemoryBytes: number | undefined;
  readonly processLimit: number;
  readonly health: HealthCheck;
  readonly restart: "unless-stopped" | "on-failure";
  readonly stopGraceSeconds: number;
  /** User of the container as `uid:gid`; undefined where the image needs its own. */
  readonly user: string | undefined;
  /** Root file system read-only; false only for images from elsewhere that cannot be run so. */
  readonly readOnly: boolean;
  /** Path that a browser opens, on the first port. */
  readonly browse: string | undefined;
  /** What it talks to; a target that can hold containers apart lets nothing else through. */
  readonly reaches: readonly Peer[];
  /** Jobs that do the service's work at intervals where a target starts jobs by the clock; undefined where none can. */
  readonly scheduled?: readonly ScheduledJob[];
  /** How the service hands its work to a cluster's queue, where a target has one; undefined where it works by itself. */
  readonly submits?: SubmittedJobs;
}

/** `internet`: HTTPS to public addresses; `git`: also SSH and git's own protocol; or a service of the stack. */
export type Peer = "internet" | "git" | WorkloadName;

/** A service that has its work done by jobs: itself it needs neither GPUs nor the memory for them. */
export interface SubmittedJobs {
  /** The service's command and mounts there. */
  readonly command: readonly string[];
  readonly mounts: readonly Mount[];
  /** File from which the service makes its jobs. Example: `/etc/tunestack/job.json`. */
  readonly template: string;
  /** A job, but for its command. */
  readonly job: Omit<Workload, "command" | "submits">;
}

export interface ScheduledJob {
  /** Added to the service's name. Example: `drill`. */
  readonly name: string;
  readonly intervalSeconds: number;
  readonly command: readonly string[];
}

export interface RunPlan {
  /** Name of the run. */
  readonly run: string;
  readonly preset: string | undefined;
  readonly model: string | undefined;
  readonly data: string;
  readonly workload: Workload;
  /** Replace a run in progress whose settings changed. */
  readonly replaceRunning: boolean;
}

export interface LeftOut {
  readonly service: WorkloadName;
  readonly reason: string;
}
