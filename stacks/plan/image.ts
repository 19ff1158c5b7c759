import type { StackInputs } from "../settings/load.ts";
import type { ImagePlan, ImageStage } from "./types.ts";

/**
 * NVIDIA's base image: the CUDA runtime library only, since PyTorch's wheels bring the rest.
 * The digest is that of the tag 12.6.3-base-ubuntu24.04, as several public Dockerfiles pin it (looked up 2026-11-23).
 */
const CUDA_12_6_BASE =
  "nvidia/cuda:12.6.3-base-ubuntu24.04@sha256:c87e78933f4c16e3272123bf2f75537306596d0fbaa395a29696a22786e5ee0e";

/** Base without a GPU, where a registry can be reached. By tag: no digest of it was looked up. */
const CPU_BASE = "python:3.12-slim-bookworm";

/** What is built for which accelerator; CUDA 12.6 is pinned by digest, another version is taken by its tag. */
export function planImage(inputs: StackInputs, accelerator: "cuda" | "cpu"): ImagePlan {
  const { image } = inputs.settings;
  return {
    base: image.base === "auto" ? automaticBase(inputs, accelerator) : image.base,
    cudaVersion: image.cudaVersion,
    pythonSet: accelerator === "cuda" ? "cu126" : "cpu",
    stages: neededStages(inputs),
    pypiMirror: image.pypiMirror,
    aptMirror: image.aptMirror,
    caCertificate: image.caCertificate,
  };
}

function automaticBase({ settings, machine }: StackInputs, accelerator: "cuda" | "cpu"): string {
  // A base that was made on this machine is for this machine's engine alone.
  if (settings.target === "docker" && machine.baseImage !== undefined) return machine.baseImage;
  if (accelerator === "cpu") return CPU_BASE;
  const version = settings.image.cudaVersion;
  return version === "12.6" ? CUDA_12_6_BASE : `nvidia/cuda:${version}.0-base-ubuntu24.04`;
}

function neededStages({ settings }: StackInputs): readonly ImageStage[] {
  const { profiles, services } = settings;
  const stages: ImageStage[] = [];
  const runner = profiles.includes("experiments") && services["experiment-runner"].enabled;
  if (profiles.includes("training") || runner) stages.push("training");
  if (profiles.includes("dev") && (services.jupyter.enabled || services.tensorboard.enabled)) stages.push("dev");
  if (profiles.includes("monitor") && services["gpu-monitor"].enabled) stages.push("monitor");
  if (profiles.includes("monitor") && services["training-backup"].enabled) stages.push("backup");
  return stages;
}
