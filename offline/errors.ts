/** Why set-up cannot go on, told so that a person can mend it: what failed, where, and what to do. */
export type OfflineCause = "network" | "disk" | "rights" | "toolchain" | "compile" | "engine" | "broken";

export interface OfflineErrorDetail {
  readonly cause: OfflineCause;
  /** What could not be done, without a full stop: "the Pulumi CLI 3.250.0 could not be built". */
  readonly what: string;
  /** The reason as far as it is known: the last lines of a tool, a path, a value. */
  readonly why: string;
  /** What the person can do about it. */
  readonly remedy: string;
  /** The whole log of the tool that failed. */
  readonly log?: string;
}

export class OfflineError extends Error implements OfflineErrorDetail {
  override readonly name = "OfflineError";
  override readonly cause: OfflineCause;
  readonly what: string;
  readonly why: string;
  readonly remedy: string;
  readonly log?: string;

  constructor(detail: OfflineErrorDetail) {
    const log = detail.log === undefined ? "" : `\n  log: ${detail.log}`;
    super(`${detail.what}\n  why: ${detail.why.replaceAll("\n", "\n       ")}\n  do:  ${detail.remedy}${log}`);
    this.cause = detail.cause;
    this.what = detail.what;
    this.why = detail.why;
    this.remedy = detail.remedy;
    if (detail.log !== undefined) this.log = detail.log;
  }
}
