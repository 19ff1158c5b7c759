import type { Live, LiveRun } from "./live.ts";

export interface Consequence {
  /** How bad it is for who is working: nothing stops, a service stops for a moment or for good, a run ends, data goes. */
  readonly level: "safe" | "interrupts" | "kills" | "unknown";
  readonly text: string;
}

export function safe(text: string): Consequence {
  return { level: "safe", text };
}

/** A run in progress ends by a change. */
export function ended({ name, step, maxSteps }: LiveRun): string {
  if (step === undefined) return `kills run ${name}, which is in progress; its step cannot be read`;
  return `kills run ${name} at step ${step}${maxSteps === undefined ? "" : ` of ${maxSteps}`}`;
}

/**
 * What becomes of a run whose container or job goes.
 * @param otherwise what happens to it where it is not in progress. Example: `removes the container of`.
 */
export function endOfRun(run: string, live: Live, otherwise: string): Consequence {
  switch (live.kind) {
    case "run":
      if (live.name === run) return { level: "kills", text: ended(live) };
      return safe(`${otherwise} run ${run}, which is not in progress`);
    case "none":
      return safe(`${otherwise} run ${run}, which is not in progress`);
    case "unseen":
      return { level: "kills", text: `kills run ${run} if it is in progress, which cannot be seen from here` };
  }
}
