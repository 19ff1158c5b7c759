import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";

export interface CommandResult {
  readonly code: number;
  readonly output: string;
}

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Everything that the command prints goes here too. */
  readonly log?: string;
  readonly onLine?: (line: string) => void;
  readonly timeoutMs?: number;
}

/** How much of a command's output is kept in memory; the log has all of it. */
const keptCharacters = 4_000_000;

/**
 * Runs a command to its end and never throws for its exit status (127 when it cannot be started). The command dies with
 * this process: an interrupted set-up leaves no compiler behind.
 */
export function run(command: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: options.cwd,
      env: options.env ?? process.env,
      stdio: ["ignore", "pipe", "pipe"],
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
    });
    const log = options.log === undefined ? undefined : createWriteStream(options.log, { flags: "a" });
    const end = () => child.kill("SIGTERM");
    process.once("exit", end);
    let output = "";
    let rest = "";
    const take = (chunk: Buffer) => {
      const text = chunk.toString("utf8");
      log?.write(text);
      output = (output + text).slice(-keptCharacters);
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      if (options.onLine) for (const line of lines) options.onLine(line);
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    const finish = (code: number) => {
      process.off("exit", end);
      if (log) log.end(() => resolve({ code, output }));
      else resolve({ code, output });
    };
    child.on("error", (error) => {
      output += error.message;
      finish(127);
    });
    child.on("close", (code) => finish(code ?? 1));
  });
}

/** The full path of an executable on PATH, or undefined. */
export async function which(name: string, path = process.env.PATH ?? ""): Promise<string | undefined> {
  for (const folder of path.split(delimiter)) {
    if (folder === "") continue;
    const candidate = join(folder, name);
    const found = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return candidate;
  }
  return undefined;
}

/** The last lines that say something, for an error message. */
export function lastLines(output: string, count = 12): string {
  return output
    .split("\n")
    .map((line) => line.trimEnd())
    .filter((line) => line !== "")
    .slice(-count)
    .join("\n");
}
