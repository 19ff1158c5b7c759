import type { Mount, VolumeName, VolumePlan } from "./types.ts";

/** The volumes of every stack, with what a person loses with each. */
export const VOLUMES: readonly VolumePlan[] = [
  { name: "training_models_cache", holds: "downloaded models and data sets" },
  { name: "training_models_gguf", holds: "exported models" },
  { name: "training_checkpoints", holds: "runs: checkpoints and adapters" },
  { name: "training_logs", holds: "loss curves, metrics and notebooks" },
  { name: "training_backup", holds: "backup snapshots" },
  { name: "training_wandb", holds: "the W&B server's database" },
];

const PATHS: Readonly<Record<VolumeName, string>> = {
  training_models_cache: "/models/cache",
  training_models_gguf: "/models/gguf",
  training_checkpoints: "/checkpoints",
  training_logs: "/logs",
  training_backup: "/backup",
  training_wandb: "/vol",
};

/** A volume at the path where every image of ours expects it. */
export function mountVolume(volume: VolumeName, access: "read-write" | "read-only" = "read-write"): Mount {
  return { kind: "volume", volume, path: PATHS[volume], readOnly: access === "read-only" };
}
