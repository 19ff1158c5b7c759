/** Nanoseconds in the units of Go's durations, in which Docker's health checks are written. */
const units = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 } as const;

/** Nanoseconds of a text like `1m30s`, `500ms` or `0`; undefined when it is no duration. */
export function parseDuration(text: string): number | undefined {
  const sign = text.startsWith("-") ? -1 : 1;
  const rest = text.replace(/^[+-]/, "");
  if (rest === "0") return 0;
  if (!/^((\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h))+$/.test(rest)) return undefined;
  let total = 0;
  for (const [, number, unit] of rest.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)/g)) {
    total += Number(number) * units[unit as keyof typeof units];
  }
  return sign * Math.round(total);
}

function trimmed(value: number): string {
  return String(Number(value.toFixed(9)));
}

/** How Go writes a duration: `1m0s`, `1.5s`, `200ms`. State holds durations in this form. */
export function formatDuration(nanoseconds: number): string {
  if (nanoseconds === 0) return "0s";
  if (nanoseconds < 0) return `-${formatDuration(-nanoseconds)}`;
  if (nanoseconds < units.us) return `${nanoseconds}ns`;
  if (nanoseconds < units.ms) return `${trimmed(nanoseconds / units.us)}µs`;
  if (nanoseconds < units.s) return `${trimmed(nanoseconds / units.ms)}ms`;
  const hours = Math.floor(nanoseconds / units.h);
  const minutes = Math.floor((nanoseconds % units.h) / units.m);
  const seconds = `${trimmed((nanoseconds % units.m) / units.s)}s`;
  if (hours > 0) return `${hours}h${minutes}m${seconds}`;
  return minutes > 0 ? `${minutes}m${seconds}` : seconds;
}
