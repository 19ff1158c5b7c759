import { bucketName } from "../settings/google-cloud.ts";
import type { StackInputs } from "../settings/load.ts";
import type { Profile, Settings } from "../settings/schema.ts";
import type { HealthCheck, LeftOut, Mount, Port, ScheduledJob, Workload, WorkloadName } from "./types.ts";
import { mountVolume } from "./volumes.ts";

/** What services of our own image have in common; a service's own part is added to it. */
const OUR_IMAGE = {
  user: "1000:1000",
  readOnly: true,
  restart: "unless-stopped",
  processLimit: 4096,
  stopGraceSeconds: 30,
  sharedMemoryBytes: undefined,
  browse: undefined,
} as const;

const MIB = 2 ** 20;

/** Every image of ours keeps its home and /tmp in memory, since its root file system is read-only. */
export const SCRATCH = [
  { path: "/tmp", bytes: 2048 * MIB },
  { path: "/home/tunestack", bytes: 256 * MIB },
] as const;

/**
 * The W&B server, whose image comes from a registry. The digest is one that a public deployment runs (looked up
 * 2026-11-23); W&B publishes no list of digests.
 */
const WANDB_LOCAL = "wandb/local@sha256:2fe35cad6d731eb6be1f63c45ee9f34962414e9b67ab39837cd59e26bb550db9";

interface ServicePlan {
  /** The service comes with any of these. */
  readonly profiles: readonly Profile[];
  readonly workload: Workload;
}

/** The services of the stack's profiles, and those left out with the reason. */
export function planServices(
  inputs: StackInputs,
  accelerator: "cuda" | "cpu",
): { readonly services: readonly Workload[]; readonly leftOut: readonly LeftOut[] } {
  const { settings } = inputs;
  const services: Workload[] = [];
  const leftOut: LeftOut[] = [];
  for (const { profiles, workload } of everyService(inputs, accelerator === "cuda")) {
    if (!profiles.some((profile) => settings.profiles.includes(profile))) continue;
    const reason = reasonToLeaveOut(inputs, workload);
    if (reason === undefined) services.push(workload);
    else leftOut.push({ service: workload.name, reason });
  }
  return { services, leftOut };
}

function everyService(inputs: StackInputs, cuda: boolean): readonly ServicePlan[] {
  return [
    { profiles: ["dev"], workload: jupyter(inputs, cuda) },
    { profiles: ["dev"], workload: tensorboard(inputs) },
    { profiles: ["dev", "monitor"], workload: wandbLocal(inputs) },
    { profiles: ["monitor"], workload: gpuMonitor(inputs, cuda) },
    { profiles: ["monitor"], workload: trainingBackup(inputs) },
    { profiles: ["experiments"], workload: experimentRunner(inputs, cuda) },
  ];
}

function reasonToLeaveOut({ settings, machine }: StackInputs, workload: Workload): string | undefined {
  if (isService(workload.name) && !settings.services[workload.name].enabled) {
    return `services.${workload.name}.enabled is false`;
  }
  if (settings.target === "kubernetes" && workload.gpu === "monitor" && settings.kubernetes.runtimeClass === undefined)
    return "kubernetes.runtimeClass is not set, without which a container sees only GPUs that it takes from runs";
  if (settings.target === "gke" && workload.gpu === "monitor")
    return "GKE tells of its GPUs by metrics of its own (DCGM), and shows a container only GPUs that it takes from runs";
  // On a rented machine it is that machine which has to reach the registry.
  const pulledHere = settings.target === "docker" && workload.image.kind === "registry";
  if (pulledHere && machine.unreachableRegistries.includes("registry-1.docker.io")) {
    return `the image ${workload.image.reference.split("@")[0]} cannot be had: registry-1.docker.io does not answer`;
  }
  return undefined;
}

/** The others are jobs, of the stack or of experiment-runner. */
function isService(name: WorkloadName): name is Exclude<WorkloadName, "qlora-training" | "experiment"> {
  return name !== "qlora-training" && name !== "experiment";
}

function jupyter({ settings, secretFiles }: StackInputs, cuda: boolean): Workload {
  const { port, memory, colab, gpu } = settings.services.jupyter;
  const seesGpus = cuda && gpu;
  return {
    ...OUR_IMAGE,
    name: "jupyter",
    image: { kind: "stage", stage: "dev" },
    command: ["jupyter", "lab"],
    environment: { ...gpuEnvironment(seesGpus), ...(colab ? { TUNESTACK_JUPYTER_COLAB: "1" } : {}) },
    mounts: [
      mountVolume("training_models_cache"),
      mountVolume("training_models_gguf"),
      mountVolume("training_checkpoints"),
      mountVolume("training_logs"),
      ...secretMounts(secretFiles, ["jupyter-token", "hf-token"]),
    ],
    ports: [{ container: 8888, host: port }],
    scratch: SCRATCH,
    gpu: seesGpus ? "all" : "none",
    memoryBytes: memory,
    sharedMemoryBytes: settings.training.sharedMemory,
    health: healthOf("jupyter", { startSeconds: 60 }),
    browse: "/lab",
    reaches: ["internet", "wandb-local"],
  };
}

function tensorboard({ settings }: StackInputs): Workload {
  const { port, memory } = settings.services.tensorboard;
  const listen: Port = { container: 6006, host: port };
  return {
    ...OUR_IMAGE,
    name: "tensorboard",
    image: { kind: "stage", stage: "dev" },
    // Within the container all interfaces; the machine binds the port to 127.0.0.1 alone.
    command: ["tensorboard", "--logdir=/logs", "--host=0.0.0.0", `--port=${listen.container}`, "--reload_interval=5"],
    environment: gpuEnvironment(false),
    mounts: [mountVolume("training_logs", "read-only")],
    ports: [listen],
    scratch: SCRATCH,
    gpu: "none",
    memoryBytes: memory,
    health: healthOf("tensorboard", { startSeconds: 60 }),
    browse: "/",
    reaches: [],
  };
}

function wandbLocal({ settings }: StackInputs): Workload {
  const { port, memory } = settings.services["wandb-local"];
  return {
    ...OUR_IMAGE,
    name: "wandb-local",
    image: { kind: "registry", reference: WANDB_LOCAL },
    command: undefined,
    environment: { ...gpuEnvironment(false), HOST: `http://localhost:${port}` },
    mounts: [mountVolume("training_wandb")],
    ports: [{ container: 8080, host: port }],
    scratch: [{ path: "/tmp", bytes: 1024 * MIB }],
    gpu: "none",
    memoryBytes: memory,
    health: {
      command: ["curl", "--fail", "--silent", "--show-error", "http://127.0.0.1:8080/healthz"],
      ...healthTimes({ startSeconds: 180 }),
    },
    // The server's own image sets up MySQL and nginx below / at its start, as the user that it chooses.
    readOnly: false,
    user: undefined,
    browse: "/",
    reaches: [],
  };
}

function gpuMonitor({ settings }: StackInputs, cuda: boolean): Workload {
  const { port, memory, interval } = settings.services["gpu-monitor"];
  return {
    ...OUR_IMAGE,
    name: "gpu-monitor",
    image: { kind: "stage", stage: "monitor" },
    // Within the container all interfaces; the machine binds the port to 127.0.0.1 alone.
    command: ["python", "-m", "tunestack_train.monitor", "--address=0.0.0.0", "--port=9400", `--interval=${interval}s`],
    environment: { ...gpuEnvironment(cuda), ...(cuda ? { NVIDIA_DRIVER_CAPABILITIES: "utility" } : {}) },
    mounts: [mountVolume("training_logs")],
    ports: [{ container: 9400, host: port }],
    scratch: SCRATCH,
    gpu: cuda ? "monitor" : "none",
    memoryBytes: memory,
    health: healthOf("gpu-monitor", { startSeconds: 30 }),
    browse: "/metrics",
    reaches: [],
  };
}

function trainingBackup({ settings, secretFiles, stack }: StackInputs): Workload {
  const { interval, drillInterval } = settings.backup;
  const repository = settings.backup.repository ?? defaultRepository(settings, stack);
  return {
    ...OUR_IMAGE,
    name: "training-backup",
    image: { kind: "stage", stage: "backup" },
    command: [
      "python",
      "-m",
      "tunestack_train.backup",
      "serve",
      `--interval=${interval}s`,
      `--drill-interval=${drillInterval}s`,
      ...keepArguments(settings),
    ],
    environment: {
      ...gpuEnvironment(false),
      ...(repository === undefined ? {} : { RESTIC_REPOSITORY: repository }),
    },
    mounts: [
      // Read-write: `restore` brings a snapshot back through this container.
      mountVolume("training_checkpoints"),
      mountVolume("training_logs"),
      mountVolume("training_models_gguf"),
      mountVolume("training_backup"),
      ...secretMounts(secretFiles, ["restic-password"]),
    ],
    ports: [],
    scratch: SCRATCH,
    gpu: "none",
    memoryBytes: settings.services["training-backup"].memory,
    health: healthOf("training-backup", { startSeconds: 120 }),
    // A snapshot under way is ended and its lock removed.
    stopGraceSeconds: 60,
    reaches: repository === undefined ? [] : ["internet"],
    scheduled: backupJobs(settings),
  };
}

/** The same work as jobs that a clock starts: each ends when it is done. */
function backupJobs(settings: Settings): readonly ScheduledJob[] {
  const { interval, drillInterval } = settings.backup;
  const times = [`--interval=${interval}s`, `--drill-interval=${drillInterval}s`];
  const program = ["python", "-m", "tunestack_train.backup"];
  return [
    {
      name: "snapshot",
      intervalSeconds: interval,
      command: [...program, "once", ...times, ...keepArguments(settings)],
    },
    { name: "drill", intervalSeconds: drillInterval, command: [...program, "once", "--drill", ...times] },
  ];
}

function keepArguments({ backup: { keep } }: Settings): readonly string[] {
  return [
    `--keep-last=${keep.last}`,
    `--keep-hourly=${keep.hourly}`,
    `--keep-daily=${keep.daily}`,
    `--keep-weekly=${keep.weekly}`,
  ];
}

/** Beside the runs and hidden from them and from backups: the repository and the worktrees of a runner. */
const RUNNER_STATE = "/checkpoints/.experiment-runner";
/** In the volume that is protected and backed up, since nobody can tell what of it can be made again. */
const RUNNER_OUTPUTS = "/checkpoints/experiments";
const JOB_TEMPLATE = "/etc/tunestack/job.json";
const RUNNER = ["python", "-m", "tunestack_train.experiments"] as const;

function experimentRunner({ settings, secretFiles }: StackInputs, cuda: boolean): Workload {
  const { repository, branch, pollInterval, cpuPlaces } = settings.experiments;
  const command = [
    ...RUNNER,
    "run",
    ...(repository === undefined ? [] : [`--repository=${repository}`]),
    `--branch=${branch}`,
    `--poll=${pollInterval}s`,
    `--state=${RUNNER_STATE}`,
    `--outputs=${RUNNER_OUTPUTS}`,
    // Without a GPU everything is a rehearsal; a GPU that drops out of sight must not turn into one.
    ...(cuda ? [] : ["--gpus-on-cpu"]),
  ];
  const cache = mountVolume("training_models_cache");
  const volumes = [mountVolume("training_checkpoints"), mountVolume("training_logs")];
  const access = secretMounts(secretFiles, ["git-token", "git-ssh-key", "git-known-hosts"]);
  const used = secretMounts(secretFiles, ["webhook-url", "hf-token", "wandb-api-key"]);
  const experiment = {
    ...OUR_IMAGE,
    name: "experiment-runner",
    image: { kind: "stage", stage: "training" },
    environment: gpuEnvironment(cuda),
    mounts: [cache, ...volumes, ...used],
    ports: [],
    scratch: SCRATCH,
    gpu: cuda ? "all" : "none",
    memoryBytes: undefined,
    sharedMemoryBytes: settings.training.sharedMemory,
    processLimit: 16384,
    health: { command: [...RUNNER, "health", `--state=${RUNNER_STATE}`], ...healthTimes({ startSeconds: 120 }) },
    stopGraceSeconds: Math.ceil(settings.training.stopGrace),
    reaches: ["internet", "wandb-local"],
  } as const satisfies Omit<Workload, "command">;
  return {
    ...experiment,
    command: [...command, `--cpu-places=${cpuPlaces}`],
    mounts: [cache, ...volumes, ...access, ...used],
    memoryBytes: settings.services["experiment-runner"].memory,
    // What runs is ended and given back to the queue.
    stopGraceSeconds: experiment.stopGraceSeconds + 30,
    reaches: ["internet", "git", "wandb-local"],
    submits: {
      command: [...command, `--job-template=${JOB_TEMPLATE}`],
      mounts: [...volumes, ...access, ...secretMounts(secretFiles, ["webhook-url"])],
      template: JOB_TEMPLATE,
      job: { ...experiment, name: "experiment" },
    },
  };
}

/** Where snapshots go that no setting sends elsewhere; undefined is the backup volume. */
function defaultRepository(settings: Settings, stack: string): string | undefined {
  switch (settings.target) {
    case "docker":
    case "kubernetes":
      return undefined;
    case "gcp-vm":
      return `gs:${bucketName(stack, settings.gcp.project)}:/restic`;
    case "gke":
      return `gs:${bucketName(stack, settings.gke.project)}:/restic`;
  }
}

/** A service without a GPU hides it from NVIDIA's runtime, which would show all of them where it is the default. */
export function gpuEnvironment(seesGpus: boolean): Readonly<Record<string, string>> {
  return seesGpus ? {} : { NVIDIA_VISIBLE_DEVICES: "void" };
}

/** Secrets that are set, as files under /run/secrets. */
export function secretMounts(
  files: StackInputs["secretFiles"],
  names: readonly (keyof StackInputs["secretFiles"])[],
): readonly Mount[] {
  return names.flatMap((name) => {
    const source = files[name];
    return source === undefined ? [] : [{ kind: "secret", source, path: `/run/secrets/${name}` } as const];
  });
}

export function healthOf(service: WorkloadName | "training", times: { readonly startSeconds: number }): HealthCheck {
  return { command: ["python", "-m", "tunestack_train.health", service], ...healthTimes(times) };
}

function healthTimes({ startSeconds }: { readonly startSeconds: number }): Omit<HealthCheck, "command"> {
  return { intervalSeconds: 10, timeoutSeconds: 10, startSeconds, retries: 3 };
}
