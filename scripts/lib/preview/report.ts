import { storeKind } from "../../../policy/stores.ts";
import type { Violation } from "../../../policy/types.ts";
import { PRICE_SOURCE } from "../../../stacks/settings/gcp-prices.ts";
import type { PropertyChange, ResourceChange } from "./changes.ts";
import { consequenceOf } from "./consequences.ts";
import { costChange, costLine } from "./cost.ts";
import type { Forecasts } from "./forecast.ts";
import { forecastLines, runCostLine } from "./forecast-report.ts";
import type { Consequence } from "./levels.ts";
import type { Live } from "./live.ts";
import { code, text } from "./markdown.ts";
import type { Place } from "./place.ts";

/** What came of the preview of one stack. */
export type StackPreview = FinishedPreview | FailedPreview;

export interface FinishedPreview {
  readonly kind: "finished";
  readonly stack: string;
  /** The stack has no state where this ran, so that all of it is created. */
  readonly isNew: boolean;
  readonly resources: readonly ResourceChange[];
  readonly live: Live;
  readonly violations: readonly Violation[];
  /** Where its runs and experiments run. */
  readonly place: Place;
  /** Undefined where nothing is rented and no runner waits for experiments. */
  readonly forecasts: Forecasts | undefined;
}

export interface FailedPreview {
  readonly kind: "failed";
  readonly stack: string;
  /** The usual block of problems. */
  readonly problems: string;
  readonly exitCode: number;
}

export interface ReportedChange {
  readonly name: string;
  readonly type: string;
  readonly operation: string;
  /** What holds data that would be deleted or replaced; undefined for everything else. */
  readonly atRisk: string | undefined;
  readonly properties: readonly PropertyChange[];
  readonly consequence: Consequence;
}

/** The changes of a stack, what stays as it is left out. */
export function changesOf({ resources, live }: FinishedPreview): readonly ReportedChange[] {
  return resources
    .filter(({ operation }) => operation !== "same")
    .map((change) => ({
      name: change.name,
      type: change.type,
      operation: change.operation,
      atRisk: change.operation === "delete" || change.operation === "replace" ? storeKind(change.type) : undefined,
      properties: change.properties,
      consequence: consequenceOf(change, live),
    }));
}

const COUNTED = ["create", "update", "replace", "delete", "same"] as const;

function countsOf({ resources }: FinishedPreview): Readonly<Record<(typeof COUNTED)[number], number>> {
  const count = (wanted: string) => resources.filter(({ operation }) => operation === wanted).length;
  return {
    create: count("create"),
    update: count("update"),
    replace: count("replace"),
    delete: count("delete"),
    same: count("same"),
  };
}

/** The previews as one object for machines; the same previews give the same object. */
export function asJson(previews: readonly StackPreview[]): object {
  const stacks = [...previews].sort(byStack).map((preview) => {
    if (preview.kind === "failed") return { stack: preview.stack, failed: true, problems: preview.problems };
    const { stack, isNew, resources, live, violations, place, forecasts } = preview;
    return {
      stack,
      failed: false,
      is_new: isNew,
      counts: countsOf(preview),
      changes: changesOf(preview),
      live_run: live.kind === "run" ? live : null,
      live_run_unseen: live.kind === "unseen" ? live.reason : null,
      cost_per_hour: { ...costChange(resources), currency: "USD", prices_of: PRICE_SOURCE.date },
      place,
      forecasts: forecasts ?? null,
      violations,
    };
  });
  return { schema: 1, stacks };
}

/** First line of the comment, by which it is found again. */
export const MARKER = "<!-- tunestack-preview -->";

const PROPERTIES_SHOWN = 12;

/** The previews as a comment on a pull request; the same previews give the same text. */
export function asMarkdown(previews: readonly StackPreview[]): string {
  const parts = [...previews]
    .sort(byStack)
    .map((preview) => (preview.kind === "failed" ? failed(preview) : finished(preview)));
  return [MARKER, "## What this changes", ...parts].join("\n\n").concat("\n");
}

function byStack(a: StackPreview, b: StackPreview): number {
  return a.stack < b.stack ? -1 : 1;
}

function failed({ stack, problems }: FailedPreview): string {
  return [`### \`${stack}\`: the preview failed`, fence(problems)].join("\n\n");
}

function finished(preview: FinishedPreview): string {
  const changes = changesOf(preview);
  const lines = [
    `### \`${preview.stack}\`: ${summary(preview)}`,
    ...(preview.isNew ? ["It has no state where this ran, so that all of it counts as new."] : []),
    ...violationLines(preview.violations),
    ...liveLines(preview.live),
    ...riskLines(changes),
    ...(changes.length === 0 ? [] : [table(changes)]),
    ...propertyLists(changes),
    `Cost: ${costLine(preview.resources)}.`,
    ...runCostLine(preview.live, preview.place),
    ...forecastLines(preview),
  ];
  return lines.join("\n\n");
}

function liveLines(live: Live): readonly string[] {
  if (live.kind !== "unseen") return [];
  return [`Whether a run is in progress cannot be seen from here: ${text(live.reason)}.`];
}

const WORDS = { create: "created", update: "updated", replace: "replaced", delete: "deleted" } as const;

function summary(preview: FinishedPreview): string {
  const counts = countsOf(preview);
  const said = (["create", "update", "replace", "delete"] as const)
    .filter((operation) => counts[operation] > 0)
    .map((operation) => `${counts[operation]} ${WORDS[operation]}`);
  return said.length === 0 ? "nothing changes" : said.join(", ");
}

function violationLines(found: readonly Violation[]): readonly string[] {
  if (found.length === 0) return [];
  const items = found.map(({ rule, path, value, reason, remedy }) => {
    const shown = value === undefined ? "" : ` = ${code(value)}`;
    return `- **${rule}**: ${code(path)}${shown} ${text(reason)}\n  → ${text(remedy)}`;
  });
  return [`**Refused by the rules of \`policy/\`:**`, items.join("\n")];
}

function riskLines(changes: readonly ReportedChange[]): readonly string[] {
  const risky = changes.filter(({ atRisk }) => atRisk !== undefined);
  if (risky.length === 0) return [];
  return [
    risky
      .map(
        ({ name, atRisk, operation, consequence }) =>
          `- **The ${atRisk} ${code(name)} would be ${operation}d**: ${consequence.text}`,
      )
      .join("\n"),
  ];
}

function table(changes: readonly ReportedChange[]): string {
  const rows = changes.map(({ name, type, operation, consequence, atRisk }) => {
    const shown = atRisk === undefined ? code(name) : `**${code(name)}**`;
    const meaning = consequence.level === "safe" ? `safe: ${text(consequence.text)}` : `**${text(consequence.text)}**`;
    return `| ${operation} | ${shown} | ${shortType(type)} | ${consequence.level === "unknown" ? text(consequence.text) : meaning} |`;
  });
  return ["| | resource | type | for what runs |", "|---|---|---|---|", ...rows].join("\n");
}

function propertyLists(changes: readonly ReportedChange[]): readonly string[] {
  const changed = changes.filter(({ properties }) => properties.length > 0);
  if (changed.length === 0) return [];
  const items = changed.flatMap(({ name, properties }) => [
    `- ${code(name)}`,
    ...properties.slice(0, PROPERTIES_SHOWN).map((property) => `  - ${propertyText(property)}`),
    ...(properties.length > PROPERTIES_SHOWN ? [`  - and ${properties.length - PROPERTIES_SHOWN} more`] : []),
  ]);
  return [["<details><summary>Properties that change</summary>", "", ...items, "", "</details>"].join("\n")];
}

function propertyText({ path, before, after, replaces }: PropertyChange): string {
  const change =
    before === undefined
      ? `${code(after ?? "")} is added`
      : after === undefined
        ? `${code(before)} is removed`
        : `${code(before)} → ${code(after)}`;
  return `${code(path)}: ${change}${replaces ? ", which replaces it" : ""}`;
}

/** `docker:index/container:Container` → `docker Container`. */
function shortType(type: string): string {
  const [provider = type, , name = ""] = type.split(":");
  return `${provider} ${name}`;
}

function fence(content: string): string {
  const longest = Math.max(2, ...[...content.matchAll(/`+/g)].map(([ticks]) => ticks.length));
  const ticks = "`".repeat(longest + 1);
  return `${ticks}text\n${content}\n${ticks}`;
}
