import { z } from "zod";
import { parseBytes, parseDuration } from "./units.ts";

/** Docker takes no memory limit below this. */
const LEAST_BYTES = 6 * 2 ** 20;

/** Memory, shared memory and file sizes: `8GiB`. In `Settings` they are bytes. */
export const size = z.unknown().transform((given, context) => {
  const bytes = typeof given === "string" ? parseBytes(given) : undefined;
  if (bytes !== undefined && bytes >= LEAST_BYTES) return bytes;
  const message = bytes === undefined ? "is no size" : "is less than 6MiB, the least that an engine takes";
  context.addIssue({
    code: "custom",
    message,
    params: { remedy: "write a number with its unit, such as 8GiB or 512MiB" },
  });
  return z.NEVER;
});

/** Intervals: `30m`, `1h30m`. In `Settings` they are seconds. */
export const duration = z.unknown().transform((given, context) => {
  const seconds = typeof given === "string" ? parseDuration(given) : undefined;
  if (seconds !== undefined && seconds > 0) return seconds;
  context.addIssue({
    code: "custom",
    message: "is no duration",
    params: { remedy: "write a number with its unit, such as 30m or 1h" },
  });
  return z.NEVER;
});
