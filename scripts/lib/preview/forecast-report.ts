import { formatBytes, formatDuration } from "../../../stacks/settings/units.ts";
import { costAtSpeed } from "../gcloud/run-cost.ts";
import type { Forecast, Forecasts } from "./forecast.ts";
import type { Live } from "./live.ts";
import { code, text } from "./markdown.ts";
import type { Place } from "./place.ts";

/** What the run in progress costs at the speed that was measured; nothing where it is on a machine of one's own. */
export function runCostLine(live: Live, place: Place): readonly string[] {
  if (live.kind !== "run") return [];
  const cost = costAtSpeed(place.perHour, live);
  if (cost === undefined) return [];
  return [
    `Run ${code(live.name)} at its measured speed: $${cost.whole.toFixed(2)} in all, $${cost.left.toFixed(2)} of it to go.`,
  ];
}

/** Of a preview, what a forecast is told by. */
interface Expected {
  readonly place: Place;
  readonly forecasts: Forecasts | undefined;
  readonly live: Live;
}

/** What the stack's run and the pending experiments would take. */
export function forecastLines({ place, forecasts, live }: Expected): readonly string[] {
  if (forecasts === undefined) return [];
  const { more, unread } = forecasts;
  // Of a run in progress it is known better.
  const work = forecasts.work.filter(({ kind, name }) => kind !== "run" || live.kind !== "run" || live.name !== name);
  return [
    ...(unread === undefined ? [] : [`Pending experiments are not known: ${text(unread)}.`]),
    ...(work.length === 0 ? [] : [`**What is going to run**, on ${placeText(place)}:`, table(work)]),
    ...(more === 0 ? [] : [`${more} more experiments are pending.`]),
    ...sourceLines(work),
  ];
}

function placeText({ words, perHour, rented }: Place): string {
  if (perHour !== undefined) return `${words}, $${perHour.toFixed(2)} an hour`;
  return rented ? `${words}, whose price is not known` : words;
}

function table(work: readonly Forecast[]): string {
  const rows = work.map((one) => {
    const label = one.kind === "run" ? `run ${code(one.name)}` : `experiment ${code(one.name)}`;
    return `| ${label} | ${memoryText(one)} | ${timeText(one)} | ${costText(one)} |`;
  });
  return ["| | memory | time | cost |", "|---|---|---|---|", ...rows, ...sumRow(work)].join("\n");
}

function memoryText({ memoryBytes, deviceMemoryBytes, verdict, reason }: Forecast): string {
  if (memoryBytes === undefined || deviceMemoryBytes === undefined) return text(reason ?? "not known");
  const sizes = `${formatBytes(memoryBytes)} of ${formatBytes(deviceMemoryBytes)}`;
  switch (verdict) {
    case "too large":
      return `${sizes}: **does not fit**`;
    case "tight":
      return `${sizes}: may not fit`;
    default:
      return sizes;
  }
}

function timeText({ seconds, timeoutSeconds, verdict }: Forecast): string {
  if (verdict === "too large") return "–";
  const limit = timeoutSeconds === undefined ? undefined : formatDuration(timeoutSeconds);
  if (seconds === undefined) return limit === undefined ? "not known" : `at most ${limit}`;
  if (timeoutSeconds !== undefined && seconds > timeoutSeconds)
    return `${formatDuration(seconds)}: **its timeout ends it after ${limit}**`;
  return formatDuration(seconds);
}

function costText({ cost, costAtMost, verdict }: Forecast): string {
  if (verdict === "too large") return "–";
  if (cost !== undefined) return `$${cost.toFixed(2)}`;
  return costAtMost === undefined ? "–" : `at most $${costAtMost.toFixed(2)}`;
}

/** What is not known counts as long as it may last; without that, there is no sum. */
function sumRow(work: readonly Forecast[]): readonly string[] {
  const costs = work.flatMap((one) => (one.verdict === "too large" ? [] : [one.cost ?? one.costAtMost]));
  const known = costs.filter((cost) => cost !== undefined);
  if (known.length < 2 || known.length < costs.length) return [];
  const exact = work.every(({ cost, verdict }) => cost !== undefined || verdict === "too large");
  const sum = known.reduce((total, cost) => total + cost, 0);
  return [`| together | | | ${exact ? "" : "at most "}$${sum.toFixed(2)} |`];
}

function sourceLines(work: readonly Forecast[]): readonly string[] {
  const sources = [...new Set(work.flatMap(({ source }) => source ?? []))];
  if (!work.some(({ memoryBytes }) => memoryBytes !== undefined)) return [];
  const speed = sources.length === 0 ? "" : `; time ${sources.join(", ")}`;
  return [`Memory by ${code("tunestack-train estimate")}${text(speed)}.`];
}
