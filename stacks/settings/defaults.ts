import type { RawSettings } from "./layers.ts";
import type { TargetKind } from "./schema.ts";

/**
 * The one place of defaults: the lowest layer of settings, in the form in which people write them.
 * Memory limits are several times what the services were seen to use (docs/experiments.md).
 */
export const DEFAULTS: RawSettings = {
  target: "docker",
  accelerator: "auto",
  profiles: ["training", "dev", "monitor"],
  image: { base: "auto", cudaVersion: "12.6" },
  training: {
    run: "first-run",
    set: {},
    sharedMemory: "8GiB",
    stopGrace: "120s",
    replaceRunning: false,
  },
  services: {
    jupyter: { enabled: true, port: 8888, memory: "16GiB", colab: false, gpu: true },
    tensorboard: { enabled: true, port: 6006, memory: "4GiB" },
    "wandb-local": { enabled: true, port: 8080, memory: "8GiB" },
    "gpu-monitor": { enabled: true, port: 9400, memory: "512MiB", interval: "5s" },
    "training-backup": { enabled: true, memory: "4GiB" },
    "experiment-runner": { enabled: true },
  },
  backup: {
    interval: "1h",
    drillInterval: "24h",
    keep: { last: 6, hourly: 24, daily: 7, weekly: 4 },
  },
  experiments: { branch: "gpu-experiments", pollInterval: "60s", cpuPlaces: 1 },
};

/** What the targets on Kubernetes have in common. */
const CLUSTER_DEFAULTS: RawSettings = {
  runAs: "jobset",
  run: { nodes: 1, gpus: 1, cpus: 4, memory: "24GiB", priority: "normal" },
};

/** GPUs of a cluster are for what is queued. */
const CLUSTER_SERVICES: RawSettings = { jupyter: { gpu: false } };

const SIZES: RawSettings = {
  training_models_cache: "100GiB",
  training_models_gguf: "100GiB",
  training_checkpoints: "100GiB",
  training_logs: "20GiB",
  training_backup: "200GiB",
  training_wandb: "20GiB",
};

/** What the targets in Google Cloud have in common. */
const CLOUD_DEFAULTS: RawSettings = {
  region: "us-central1",
  zones: ["us-central1-a", "us-central1-b", "us-central1-c"],
  subnet: "10.10.0.0/24",
  access: [],
  snapshotRetention: "30d",
};

/** Defaults of each target's own block, and what else has another default there. */
export const TARGET_DEFAULTS: Readonly<Record<TargetKind, RawSettings>> = {
  docker: { docker: { prefix: "" } },
  "gcp-vm": {
    gcp: {
      ...CLOUD_DEFAULTS,
      gpus: ["L4"],
      provisioning: "spot",
      bootDisk: "50GiB",
      dataDisk: "200GiB",
      maximumRun: "24h",
      idleShutdown: "30m",
      colab: {
        enabled: false,
        gpu: "L4",
        disk: "100GiB",
        idleShutdown: "30m",
        publicInternet: false,
        users: [],
        grantKey: true,
      },
    },
  },
  kubernetes: {
    services: CLUSTER_SERVICES,
    kubernetes: {
      ...CLUSTER_DEFAULTS,
      queue: { pools: [{ gpu: "L4" }], preemption: true },
      storage: { spread: "several-nodes", sizes: SIZES },
      runtimeClass: "nvidia",
    },
  },
  gke: {
    services: CLUSTER_SERVICES,
    gke: {
      ...CLOUD_DEFAULTS,
      ...CLUSTER_DEFAULTS,
      location: "regional",
      releaseChannel: "regular",
      maintenance: "03:00",
      podRange: "10.20.0.0/16",
      serviceRange: "10.30.0.0/20",
      endpoint: "dns",
      deletionProtection: true,
      imageStreaming: true,
      gpuDriver: "latest",
      controllerRegistry: "registry.k8s.io",
      cpuPool: { machineType: "e2-standard-8", minimum: 1, maximum: 3, disk: "100GiB", confidential: false },
      // Spot first; a run that finds none goes to a standard node.
      queue: {
        pools: [
          { gpu: "L4", provisioning: "spot", nodes: 2 },
          { gpu: "L4", provisioning: "standard", nodes: 1 },
        ],
        preemption: true,
      },
      storage: {
        filestore: "basic",
        inBuckets: ["training_models_gguf", "training_backup"],
        singleClass: "standard-rwo",
        // Filestore has nothing smaller.
        sizes: { ...SIZES, training_logs: "100GiB" },
      },
    },
  },
};

/** Data of a preset that a person gave none for: the set that is committed with the project. */
export const SAMPLE_DATA = "examples/data/tunestack-help.jsonl";
