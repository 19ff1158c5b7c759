import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { explainGit } from "./git-errors.ts";

export interface GitResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface GitOptions {
  readonly input?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** What was tried, for the message where it fails. Example: `fetch the branch gpu-experiments`. */
  readonly what?: string;
}

/**
 * Git in one repository, by its plumbing: nothing here touches the working tree, the index or `FETCH_HEAD`. What git asks
 * a person (a password, a host key) it asks on the terminal; without one it fails with a reason.
 */
export class Git {
  constructor(readonly directory: string) {}

  /** Output of a command, without the newline at its end. @throws UserError with what went wrong, in words. */
  async text(args: readonly string[], options: GitOptions = {}): Promise<string> {
    const result = await this.attempt(args, options);
    if (result.exitCode !== 0) throw explainGit(result.stderr, { directory: this.directory, what: options.what, args });
    return result.stdout.replace(/\n$/, "");
  }

  /** As `text`, where a failure is an answer; undefined then. */
  async maybe(args: readonly string[]): Promise<string | undefined> {
    const { exitCode, stdout } = await this.attempt(args);
    return exitCode === 0 ? stdout.replace(/\n$/, "") : undefined;
  }

  /**
   * Contents of objects by their names, such as `COMMIT:PATH`, all by one program; what is not there is left out.
   * @throws UserError where this is no repository.
   */
  blobs(names: readonly string[]): ReadonlyMap<string, Buffer> {
    if (names.length === 0) return new Map();
    const args = ["cat-file", "--batch"];
    const input = names.map((name) => `${name}\n`).join("");
    const { status, stdout, stderr } = spawnSync("git", args, { cwd: this.directory, input, maxBuffer: 2 ** 30 });
    if (status !== 0) throw explainGit(String(stderr), { directory: this.directory, what: undefined, args });
    return readBatch(stdout, names);
  }

  async attempt(args: readonly string[], { input, environment }: GitOptions = {}): Promise<GitResult> {
    // A folder that is not there makes the start of any program fail, with a message about the program.
    if (!existsSync(this.directory))
      return { exitCode: 128, stdout: "", stderr: "fatal: not a git repository: no such folder" };
    const child = spawn("git", args, {
      cwd: this.directory,
      stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      env: {
        ...process.env,
        // What git says is told apart by its words.
        LC_ALL: "C",
        GIT_TERMINAL_PROMPT: process.stdin.isTTY && process.stderr.isTTY ? "1" : "0",
        ...environment,
      },
    });
    child.stdin?.end(input);
    // A program that ends without reading what it is given says why itself.
    child.stdin?.on("error", () => undefined);
    const ended = once(child, "close");
    const [stdout, stderr, [exitCode]] = await Promise.all([textOf(child.stdout), textOf(child.stderr), ended]);
    return { exitCode: typeof exitCode === "number" ? exitCode : 128, stdout, stderr };
  }
}

/** `HASH blob SIZE`, a newline, so many bytes, a newline; or `NAME missing`. In the order of the names. */
function readBatch(output: Buffer, names: readonly string[]): ReadonlyMap<string, Buffer> {
  const found = new Map<string, Buffer>();
  let position = 0;
  for (const name of names) {
    const end = output.indexOf("\n", position);
    const size = / blob (\d+)$/.exec(output.subarray(position, end).toString())?.[1];
    position = end + 1;
    if (size === undefined) continue;
    found.set(name, output.subarray(position, position + Number(size)));
    position += Number(size) + 1;
  }
  return found;
}

async function textOf(stream: Readable | null): Promise<string> {
  return stream === null ? "" : await text(stream);
}
