import { setTimeout as sleep } from "node:timers/promises";
import { EXIT, UserError } from "../errors.ts";
import type { Queue } from "./branch.ts";
import { QUEUE_FILE } from "./format.ts";
import { type Job, logOf, readState } from "./state.ts";
import { fileProblem, toProblem } from "./validate.ts";

const POLL_MS = 5000;

/** Prints a job's log, and with `follow` what comes to it until it ends. Returns the job as it was last; undefined where there is none. */
export async function printLog(
  queue: Queue,
  name: string,
  { follow, print }: { readonly follow: boolean; readonly print: (text: string) => void },
): Promise<Job | undefined> {
  let shown = "";
  let told = "";
  for (;;) {
    const state = await readState(queue);
    const job = state.jobs.find((each) => each.name === name);
    if (job === undefined) {
      const broken = fileProblem(state.problems);
      if (broken !== undefined) throw new UserError([toProblem(broken, QUEUE_FILE)], EXIT.refused, "queue");
      return undefined;
    }
    const log = await logOf(queue, state.commit, job);
    print(newPart(shown, log));
    shown = log;
    const ended = job.status !== "pending" && job.status !== "running";
    if (!follow || ended) return job;
    const doing =
      job.status === "pending" ? `${name} waits for a runner` : `${name} runs on ${job.claim?.runner ?? job.runner}`;
    if (doing !== told) console.error(doing);
    told = doing;
    await sleep(POLL_MS);
  }
}

/** What a log has beyond what was shown of it; only its end is kept on the server, so the beginning may have gone. */
export function newPart(shown: string, log: string): string {
  if (log.startsWith(shown)) return log.slice(shown.length);
  // The longest end of what was shown that the log begins with, or has within it.
  const tail = shown.slice(-400);
  const at = tail === "" ? -1 : log.indexOf(tail);
  return at === -1 ? log : log.slice(at + tail.length);
}
