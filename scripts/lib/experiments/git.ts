import { existsSync } from "node:fs";
import { $ } from "zx";
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

  async attempt(args: readonly string[], { input, environment }: GitOptions = {}): Promise<GitResult> {
    // A folder that is not there makes the start of any program fail, with a message about the program.
    if (!existsSync(this.directory))
      return { exitCode: 128, stdout: "", stderr: "fatal: not a git repository: no such folder" };
    const run = $({
      cwd: this.directory,
      quiet: true,
      nothrow: true,
      env: {
        ...process.env,
        // What git says is told apart by its words.
        LC_ALL: "C",
        GIT_TERMINAL_PROMPT: process.stdin.isTTY && process.stderr.isTTY ? "1" : "0",
        ...environment,
      },
      ...(input === undefined ? { stdio: ["ignore", "pipe", "pipe"] } : { input }),
    });
    const { exitCode, stdout, stderr } = await run`git ${[...args]}`;
    return { exitCode: exitCode ?? 128, stdout, stderr };
  }
}
