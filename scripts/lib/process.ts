import { $ } from "zx";
import { EXIT, UserError } from "./errors.ts";

/**
 * Runs a program with its output kept; what it said last is shown where it fails.
 * @throws UserError with the command and the end of its output.
 */
export async function runQuietly(
  program: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<string> {
  const quiet = $({
    quiet: true,
    nothrow: true,
    env: { ...process.env, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const result = await quiet`${program} ${[...args]}`;
  if (result.exitCode === 0) return result.stdout;
  const said = `${result.stdout}\n${result.stderr}`.trim().split("\n").slice(-8).join("\n    ");
  throw new UserError(
    [
      {
        path: [program, ...args].join(" "),
        reason: `ended with exit code ${result.exitCode}:\n    ${said}`,
        remedy: "mend what it says, then type the same command again: what is done is not done twice",
      },
    ],
    EXIT.machine,
    "set-up",
  );
}
