import { EXIT, UserError } from "./errors.ts";

/** Parses `--set key=value`, all mistakes at once. */
export function parseSettings(pairs: readonly string[]): Record<string, string> {
  const wrong = pairs.filter((pair) => !/^[a-z][a-z0-9_.]*=/.test(pair));
  if (wrong.length > 0) {
    throw new UserError(
      wrong.map((pair) => ({
        path: "--set",
        value: pair,
        reason: "is not key=value",
        remedy: "write it as --set max_steps=200",
      })),
      EXIT.settings,
      "command line",
    );
  }
  return Object.fromEntries(pairs.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]));
}
