import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, describe, expect, test } from "vitest";
import { BODY_LIMIT, type CommentTarget, fitted, postComment } from "../../scripts/lib/preview/comment.ts";
import { MARKER } from "../../scripts/lib/preview/report.ts";

interface Comment {
  readonly id: number;
  body: string;
  readonly user: { readonly login: string };
}

const AUTHOR = "github-actions[bot]";
const HEAD = "1".repeat(40);

/** GitHub's API as far as comments go: it checks the token, pages, and fails as it is told to. */
class FakeGitHub {
  readonly comments: Comment[] = [];
  readonly requests: string[] = [];
  /** Answers that come before the right ones. */
  readonly failures: { status: number; headers?: Record<string, string>; body?: string }[] = [];
  /** The next comment is written, and its answer lost. */
  losesAnswer = false;
  readonly waited: number[] = [];
  readonly #server: Server = createServer((request, response) => void this.#answer(request, response));

  async start(): Promise<CommentTarget> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    const { port } = this.#server.address() as AddressInfo;
    return {
      apiUrl: `http://127.0.0.1:${port}`,
      repository: "me/tunestack",
      pullRequest: 7,
      head: undefined,
      token: "right",
      author: AUTHOR,
      wait: async (milliseconds) => this.waited.push(milliseconds),
    };
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  add(body: string, login = "somebody"): Comment {
    const comment = { id: this.comments.length + 1, body, user: { login } };
    this.comments.push(comment);
    return comment;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://x");
    this.requests.push(`${request.method} ${url.pathname}${url.search}`);
    const content = await text(request);
    const send = (status: number, value: unknown, headers: Record<string, string> = {}) =>
      response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
    const failure = this.failures.shift();
    if (failure !== undefined) {
      return void send(failure.status, { message: failure.body ?? "failed" }, failure.headers);
    }
    if (request.headers.authorization !== "Bearer right") return void send(401, { message: "Bad credentials" });
    const [status, value] = this.#right(request.method ?? "", url, content);
    if (this.losesAnswer && request.method === "POST") {
      this.losesAnswer = false;
      return void send(500, {});
    }
    send(status, value);
  }

  #right(method: string, url: URL, content: string): readonly [number, unknown] {
    const body = () => (JSON.parse(content) as { body: string }).body;
    const id = /^\/repos\/me\/tunestack\/issues\/comments\/(\d+)$/.exec(url.pathname)?.[1];
    if (method === "GET" && url.pathname === "/repos/me/tunestack/pulls/7") return [200, { head: { sha: HEAD } }];
    if (url.pathname === "/repos/me/tunestack/issues/7/comments") {
      if (method === "POST") return [201, this.add(body(), AUTHOR)];
      const [size, page] = [Number(url.searchParams.get("per_page")), Number(url.searchParams.get("page"))];
      return [200, this.comments.slice((page - 1) * size, page * size)];
    }
    const comment = this.comments.find((one) => String(one.id) === id);
    if (method !== "PATCH" || comment === undefined) return [404, { message: "Not Found" }];
    if (body().length > BODY_LIMIT) return [422, { message: "body is too long" }];
    comment.body = body();
    return [200, comment];
  }
}

let github: FakeGitHub;
async function start(): Promise<CommentTarget> {
  github = new FakeGitHub();
  return await github.start();
}
afterEach(async () => await github?.stop());

const BODY = `${MARKER}\n\n## What this changes\n`;

describe("the comment", () => {
  test("is created where there is none", async () => {
    const target = await start();
    github.add("looks good");
    expect(await postComment(target, BODY)).toBe("created");
    expect(github.comments.map(({ body }) => body)).toEqual(["looks good", BODY]);
  });

  test("is updated in place, and left alone where it says the same already", async () => {
    const target = await start();
    await postComment(target, BODY);
    expect(await postComment(target, `${BODY}more\n`)).toBe("updated");
    expect(await postComment(target, `${BODY}more\n`)).toBe("unchanged");
    expect(github.comments.map(({ body }) => body)).toEqual([`${BODY}more\n`]);
  });

  test("is found on a later page", async () => {
    const target = await start();
    for (let count = 0; count < 230; count += 1) github.add(`comment ${count}`);
    github.add(BODY, AUTHOR);
    expect(await postComment(target, `${BODY}more\n`)).toBe("updated");
    expect(github.requests.filter((request) => request.includes("page=")).map((request) => request.slice(-6))).toEqual([
      "page=1",
      "page=2",
      "page=3",
    ]);
    expect(github.comments).toHaveLength(231);
  });

  test("of somebody else is not touched, even with the marker", async () => {
    const target = await start();
    github.add(BODY, "mallory");
    expect(await postComment(target, `${BODY}more\n`)).toBe("created");
    expect(github.comments[0]?.body).toBe(BODY);
  });

  test("is written only while the pull request ends with the commit that was previewed", async () => {
    const target = await start();
    expect(await postComment({ ...target, head: "2".repeat(40) }, BODY)).toBe("outdated");
    expect(github.comments).toEqual([]);
    expect(await postComment({ ...target, head: HEAD }, BODY)).toBe("created");
  });
});

describe("a request that fails", () => {
  test.each([
    ["a server's error", { status: 502 }, 1000],
    ["the secondary rate limit", { status: 403, body: "You have exceeded a secondary rate limit" }, 1000],
    ["a limit that says how long", { status: 403, headers: { "retry-after": "17" } }, 17_000],
    ["too many requests", { status: 429, headers: { "retry-after": "3" } }, 3000],
    ["the hourly limit", { status: 403, headers: { "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1" } }, 0],
  ])("by %s is tried again after a while", async (_title, failure, wait) => {
    const target = await start();
    github.failures.push(failure);
    expect(await postComment(target, BODY)).toBe("created");
    expect(github.waited).toEqual([wait]);
  });

  test("never waits longer than two minutes", async () => {
    const target = await start();
    github.failures.push({ status: 403, headers: { "retry-after": "3600" } });
    await postComment(target, BODY);
    expect(github.waited).toEqual([120_000]);
  });

  test("but did write leaves one comment", async () => {
    const target = await start();
    github.losesAnswer = true;
    expect(await postComment(target, BODY)).toBe("unchanged");
    expect(github.comments).toHaveLength(1);
  });

  test("time after time is given up", async () => {
    const target = await start();
    for (let count = 0; count < 9; count += 1) github.failures.push({ status: 503 });
    await expect(postComment(target, BODY)).rejects.toThrow(/answers 503, 5 times in a row/);
    expect(github.waited).toEqual([1000, 2000, 4000, 8000]);
  });

  test.each([
    [401, { token: "wrong" }, /does not know the token \(401\)/],
    [404, { pullRequest: 8, repository: "me/other" }, /no such repository or pull request.*\(404\)/],
  ])("with %i says why, at once", async (_status, change, message) => {
    const target = await start();
    await expect(postComment({ ...target, ...change }, BODY)).rejects.toThrow(message);
    expect(github.requests).toHaveLength(1);
  });

  test("for want of a right says which", async () => {
    const target = await start();
    github.failures.push({ status: 403, body: "Resource not accessible by integration" });
    await expect(postComment(target, BODY)).rejects.toThrow(/pull-requests: write/);
    expect(github.requests).toHaveLength(1);
  });

  test("because nobody listens says so, without the token", async () => {
    const target = await start();
    await github.stop();
    const failed = await postComment(target, BODY).catch((error: unknown) => String(error));
    expect(failed).toMatch(/ECONNREFUSED/);
    expect(failed).not.toContain("right");
  });
});

describe("a body", () => {
  test("within the limit is left as it is", () => {
    expect(fitted(BODY)).toBe(BODY);
    expect(fitted("no marker")).toBe(`${MARKER}\n\nno marker`);
  });

  test("over the limit is cut at a line's end, with what is open closed, and says so", () => {
    const line = `${"x".repeat(99)}\n`;
    const long = fitted(`${BODY}<details>\n\n\`\`\`text\n${line.repeat(900)}\`\`\`\n\n</details>\n`);
    expect(long.length).toBeLessThanOrEqual(BODY_LIMIT);
    expect(long.length).toBeGreaterThan(BODY_LIMIT - 300);
    expect(long).toMatch(/x{99}\n```\n\n<\/details>\n\n\*\*Cut here: .*artifact of this check\.\*\*\n$/);
  });
});
