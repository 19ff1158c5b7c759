import { z } from "zod";
import { DEFAULTS, TARGET_DEFAULTS } from "./defaults.ts";
import { isRecord, type Layer, mergeLayers } from "./layers.ts";
import { type Problem, SettingsError, showValue } from "./problems.ts";
import { isTarget, type Settings, settingsSchema, TARGETS } from "./schema.ts";

export interface Resolved {
  readonly settings: Settings;
  /** For each leaf's path the source of its value. */
  readonly sources: ReadonlyMap<string, string>;
}

/**
 * Merges the layers over the defaults and checks the result.
 * @throws SettingsError with every problem found.
 */
export function resolveSettings(layers: readonly Layer[]): Resolved {
  const defaults: Layer = { source: "default", values: DEFAULTS };
  const { target } = mergeLayers([defaults, ...layers]).values;
  const own: readonly Layer[] = isTarget(target) ? [{ source: "default", values: TARGET_DEFAULTS[target] }] : [];
  const merged = mergeLayers([defaults, ...own, ...layers]);
  const parsed = settingsSchema.safeParse(merged.values);
  if (!parsed.success) {
    const problems = parsed.error.issues.flatMap((issue) => toProblems(issue, merged.values, merged.sources));
    throw new SettingsError(problems);
  }
  return { settings: parsed.data, sources: merged.sources };
}

type Issue = z.core.$ZodIssue;

function toProblems(issue: Issue, values: unknown, sources: ReadonlyMap<string, string>): Problem[] {
  const keys = issue.path.map(String);
  const at = (path: readonly string[]) => {
    const dotted = path.join(".");
    // The source of the value itself, of the list that it is in, or of the first leaf of the map that it is.
    const source = [...sources].find(
      ([leaf]) => leaf === dotted || dotted.startsWith(`${leaf}.`) || leaf.startsWith(`${dotted}.`),
    )?.[1];
    return source === undefined || source === "default" ? dotted : `${dotted} (${source})`;
  };
  if (issue.code === "unrecognized_keys") {
    const known = knownKeys(keys, isRecord(values) ? values.target : undefined);
    return issue.keys.map((key) => ({
      path: at([...keys, key]),
      value: showValue(valueAt(values, [...keys, key])),
      reason: "is not a setting",
      remedy: suggestion(key, known),
    }));
  }
  const value = valueAt(values, keys);
  // A problem is printed, so a value that may hold a secret is not in it.
  const shown = issue.code === "custom" && issue.params?.secret === true ? undefined : showValue(value);
  return [{ path: at(keys), value: shown, ...reasonAndRemedy(issue, value) }];
}

function reasonAndRemedy(issue: Issue, value: unknown): { reason: string; remedy: string } {
  switch (issue.code) {
    case "invalid_type": {
      const expected = typeWords(issue.expected);
      if (value === undefined) return { reason: "is missing", remedy: `set it to ${expected}` };
      const quoted = issue.expected === "string" && typeof value !== "object";
      return {
        reason: `is ${typeName(value)} and not ${expected}`,
        remedy: quoted ? "write it in quotes" : `write ${expected}`,
      };
    }
    case "invalid_value": {
      const allowed = issue.values.map(String);
      return { reason: "is not one of the values allowed", remedy: `${suggestion(String(value), allowed)}` };
    }
    case "invalid_union":
      if (issue.path.at(-1) === "target")
        return { reason: "is not one of the targets", remedy: `set it to one of: ${TARGETS.join(", ")}` };
      return { reason: `is ${typeName(value)}`, remedy: "write a number, a text, true or false" };
    case "too_small":
      if (issue.origin === "string") return { reason: "is empty", remedy: "give it a value, or take the key away" };
      return { reason: `is less than ${issue.minimum}`, remedy: `choose at least ${issue.minimum}` };
    case "too_big":
      return { reason: `is more than ${issue.maximum}`, remedy: `choose at most ${issue.maximum}` };
    case "invalid_format":
      if (issue.format === "url")
        return { reason: "is no URL", remedy: "write it in full, such as https://mirror.example/simple" };
      return { reason: issue.message, remedy: "see the keys and examples in Pulumi.yaml" };
    case "custom": {
      const remedy: unknown = issue.params?.remedy;
      return { reason: issue.message, remedy: typeof remedy === "string" ? remedy : "see the keys in Pulumi.yaml" };
    }
    default:
      return { reason: issue.message, remedy: "see the keys and examples in Pulumi.yaml" };
  }
}

function typeName(value: unknown): string {
  if (Array.isArray(value)) return typeWords("array");
  return typeWords(isRecord(value) ? "object" : typeof value);
}

/** A type in the words of a settings file. */
function typeWords(type: string): string {
  return TYPE_WORDS[type] ?? `a ${type}`;
}

const TYPE_WORDS: Readonly<Record<string, string>> = {
  string: "text",
  int: "a whole number",
  boolean: "true or false",
  array: "a list",
  object: "a map",
  record: "a map",
};

function valueAt(values: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>((here, key) => {
    if (Array.isArray(here)) return here[Number(key)];
    return isRecord(here) ? here[key] : undefined;
  }, values);
}

/** Keys that the schema of a target knows at a path; empty where the path is not an object of the schema. */
function knownKeys(path: readonly string[], target: unknown): readonly string[] {
  let here: unknown = settingsSchema.def.options.find((option) => option.shape.target.value === target);
  for (const key of path) here = here instanceof z.ZodObject ? unwrap(here.shape[key]) : undefined;
  return here instanceof z.ZodObject ? Object.keys(here.shape) : [];
}

function unwrap(schema: unknown): unknown {
  return schema instanceof z.ZodOptional ? schema.unwrap() : schema;
}

/** More are listed only where none of them is near. */
const FEW = 20;

function suggestion(given: string, known: readonly string[]): string {
  const closest = known
    .map((key) => ({ key, distance: editDistance(given.toLowerCase(), key.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance)[0];
  const list = known.length === 0 ? "remove it" : `use one of: ${known.join(", ")}`;
  if (closest === undefined || closest.distance > Math.max(2, given.length / 3)) return list;
  return `did you mean ${closest.key}?${known.length > FEW ? "" : ` Otherwise ${list}`}`;
}

/** Levenshtein distance of two short words. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i += 1) {
    const current = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const substitution = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitution, (previous[j] ?? 0) + 1, (current[j - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}
