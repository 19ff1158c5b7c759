import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { EXIT, UserError } from "../errors.ts";
import { MARKER } from "./report.ts";

export interface CommentTarget {
  /** Example: `https://api.github.com`. */
  readonly apiUrl: string;
  /** Example: `me/tunestack`. */
  readonly repository: string;
  readonly pullRequest: number;
  /** Commit that the pull request must still end with; undefined does not look. */
  readonly head: string | undefined;
  readonly token: string;
  /** Whose comment is updated; what somebody else wrote is left alone. */
  readonly author: string;
  /** Waits between tries, in milliseconds; a test does not wait. */
  readonly wait?: (milliseconds: number) => Promise<unknown>;
}

/** GitHub's limit of a comment, in characters. */
export const BODY_LIMIT = 65_536;

const TRIES = 5;
const LONGEST_WAIT_MS = 120_000;
const REQUEST_TIMEOUT_MS = 30_000;
const PAGE = 100;

/**
 * Writes the comment of the previews, or updates the one that is there.
 * @param markdown begins with the marker.
 * @returns what was done; `outdated` where the pull request has gone on, and nothing was written.
 * @throws UserError where GitHub refuses or does not answer.
 */
export async function postComment(
  target: CommentTarget,
  markdown: string,
): Promise<"created" | "updated" | "unchanged" | "outdated"> {
  const body = fitted(markdown);
  const wait = target.wait ?? ((milliseconds: number) => sleep(milliseconds));
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await postOnce(target, body);
    } catch (error) {
      const again = error instanceof RetryableError && attempt < TRIES;
      if (!again) throw error instanceof RetryableError ? unanswered(target, error) : error;
      // All over again, since a request that seemed to fail may have written the comment.
      await wait(Math.min(error.waitMs ?? 1000 * 2 ** (attempt - 1), LONGEST_WAIT_MS));
    }
  }
}

/** A body over GitHub's limit is cut at a line's end, and says so. */
export function fitted(markdown: string): string {
  const body = markdown.startsWith(MARKER) ? markdown : `${MARKER}\n\n${markdown}`;
  if (body.length <= BODY_LIMIT) return body;
  const note = (open: string) =>
    `${open}\n\n**Cut here: the whole text is longer than GitHub takes. It stands in the artifact of this check.**\n`;
  const room = BODY_LIMIT - note("\n```\n\n</details>").length;
  const kept = body.slice(0, body.lastIndexOf("\n", room));
  const inFence = (kept.match(/^`{3,}/gm) ?? []).length % 2 === 1;
  const inDetails = kept.lastIndexOf("<details>") > kept.lastIndexOf("</details>");
  return kept + note(`${inFence ? "\n```" : ""}${inDetails ? "\n\n</details>" : ""}`);
}

const commentSchema = z.object({
  id: z.number(),
  body: z.string().nullish(),
  user: z.object({ login: z.string() }).nullish(),
});
const pullSchema = z.object({ head: z.object({ sha: z.string() }) });

async function postOnce(
  target: CommentTarget,
  body: string,
): Promise<"created" | "updated" | "unchanged" | "outdated"> {
  const repository = `/repos/${target.repository}`;
  if (target.head !== undefined) {
    const pull = await request(target, "GET", `${repository}/pulls/${target.pullRequest}`);
    if (pullSchema.parse(pull.content).head.sha !== target.head) return "outdated";
  }
  const ours = await findComment(target);
  if (ours === undefined) {
    await request(target, "POST", `${repository}/issues/${target.pullRequest}/comments`, { body });
    return "created";
  }
  if (ours.body?.replaceAll("\r\n", "\n").trimEnd() === body.trimEnd()) return "unchanged";
  await request(target, "PATCH", `${repository}/issues/comments/${ours.id}`, { body });
  return "updated";
}

async function findComment(target: CommentTarget): Promise<z.output<typeof commentSchema> | undefined> {
  for (let page = 1; ; page += 1) {
    const path = `/repos/${target.repository}/issues/${target.pullRequest}/comments?per_page=${PAGE}&page=${page}`;
    const comments = z.array(commentSchema).parse((await request(target, "GET", path)).content);
    const ours = comments.find(({ body, user }) => user?.login === target.author && body?.startsWith(MARKER) === true);
    if (ours !== undefined || comments.length < PAGE) return ours;
  }
}

/** What may well work in a while. */
class RetryableError extends Error {
  constructor(
    message: string,
    readonly waitMs: number | undefined,
  ) {
    super(message);
  }
}

async function request(
  target: CommentTarget,
  method: string,
  path: string,
  content?: object,
): Promise<{ content: unknown }> {
  const response = await fetch(`${target.apiUrl}${path}`, {
    method,
    headers: {
      accept: "application/vnd.github+json",
      authorization: `Bearer ${target.token}`,
      "x-github-api-version": "2022-11-28",
      "user-agent": "tunestack-preview",
      ...(content === undefined ? {} : { "content-type": "application/json" }),
    },
    ...(content === undefined ? {} : { body: JSON.stringify(content) }),
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  }).catch((error: unknown) => {
    throw new RetryableError(reasonOf(error), undefined);
  });
  const answer = await response.text();
  if (response.ok) return { content: JSON.parse(answer) as unknown };
  if (isRetryable(response, answer)) throw new RetryableError(`answers ${response.status}`, waitOf(response.headers));
  throw refusal(target, response.status, answer);
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message : String(cause);
}

/** A server's own trouble, and both of GitHub's limits: the hourly one, and the secondary one for what comes too fast. */
function isRetryable({ status, headers }: Response, answer: string): boolean {
  if (status >= 500 || status === 429) return true;
  if (status !== 403) return false;
  return (
    headers.has("retry-after") || headers.get("x-ratelimit-remaining") === "0" || /secondary rate limit/i.test(answer)
  );
}

function waitOf(headers: Headers): number | undefined {
  const seconds = Number(headers.get("retry-after") ?? Number.NaN);
  if (Number.isFinite(seconds)) return seconds * 1000;
  const reset = Number(headers.get("x-ratelimit-reset") ?? Number.NaN);
  if (headers.get("x-ratelimit-remaining") !== "0" || !Number.isFinite(reset)) return undefined;
  return Math.max(0, reset * 1000 - Date.now());
}

function unanswered({ apiUrl }: CommentTarget, error: RetryableError): UserError {
  return new UserError(
    [
      {
        path: "GitHub",
        value: apiUrl,
        reason: `${error.message}, ${TRIES} times in a row`,
        remedy: "run the job again later",
      },
    ],
    EXIT.network,
    "comment",
  );
}

function refusal({ apiUrl, repository, pullRequest }: CommentTarget, status: number, answer: string): UserError {
  const place = { path: "GitHub", value: `${apiUrl}, ${repository}#${pullRequest}` };
  switch (status) {
    case 401:
      return refused({
        ...place,
        reason: "does not know the token (401)",
        remedy: "set GITHUB_TOKEN to one that has not expired",
      });
    case 403:
      return refused({
        ...place,
        reason: "the token may not write comments (403)",
        remedy: "give the job `permissions: pull-requests: write`; a token of a fork's pull request cannot have it",
      });
    case 404:
      return refused({
        ...place,
        reason: "there is no such repository or pull request, or the token may not see it (404)",
        remedy: "check GITHUB_REPOSITORY and --pull-request, and that the token is for this repository",
      });
    default:
      return refused({ ...place, reason: `answers ${status}: ${answer.slice(0, 200)}`, remedy: "mend what it says" });
  }
}

function refused(problem: { path: string; value: string; reason: string; remedy: string }): UserError {
  return new UserError([problem], EXIT.network, "comment");
}
