/** What the infrastructure has to know of a training preset; its hyperparameters live in `tunestack_train`. */
export interface PresetFacts {
  /** Hugging Face id of the base model; undefined where the model is made on the spot. */
  readonly model?: string;
  /** The model is gated: its licence must be accepted and a token given. */
  readonly gated: boolean;
  /** Least GPU memory, in GiB, that the preset was laid out for; 0 where a CPU does. Source: design, table of presets. */
  readonly gpuMemoryGiB: number;
}

export const PRESETS = {
  rehearsal: { gated: false, gpuMemoryGiB: 0 },
  "gemma-2b": { model: "google/gemma-2-2b", gated: true, gpuMemoryGiB: 12 },
  "gemma-9b": { model: "google/gemma-2-9b", gated: true, gpuMemoryGiB: 22 },
} as const satisfies Readonly<Record<string, PresetFacts>>;

export type PresetName = keyof typeof PRESETS;

export const PRESET_NAMES: readonly PresetName[] = ["rehearsal", "gemma-2b", "gemma-9b"];

export function presetFacts(name: PresetName): PresetFacts {
  return PRESETS[name];
}
