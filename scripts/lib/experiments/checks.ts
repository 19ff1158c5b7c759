import { isRecord } from "../../../stacks/settings/layers.ts";
import { showValue } from "../../../stacks/settings/problems.ts";
import {
  isName,
  isValue,
  KNOWN_FIELDS,
  LONGEST_MATRIX_NAME,
  LONGEST_TIMEOUT_SECONDS,
  type MatrixValue,
  MOST_CHILDREN,
  STATUSES,
} from "./format.ts";
import { childrenOf, countChildren, valueText } from "./matrix.ts";

/** A way into the file. Example: `[2, "matrix", "lr"]`. */
export type Path = readonly (string | number)[];

/** One thing that is wrong, without its line. */
export interface Finding {
  readonly code: string;
  readonly path: Path;
  readonly value: string | undefined;
  readonly reason: string;
  readonly remedy: string;
}

type Entry = Readonly<Record<string, unknown>>;
type Check = (value: unknown, path: Path) => readonly Finding[];

function finding(code: string, path: Path, value: unknown, reason: string, remedy: string): Finding {
  return { code, path, value: showValue(value), reason, remedy };
}

/** What is wrong with one entry by itself. */
export function checkEntry(entry: unknown, index: number): readonly Finding[] {
  if (!isRecord(entry)) {
    const remedy = 'write an object: { "name": "first", "command": "python train.py" }';
    return [finding("object", [index], entry, "is no experiment", remedy)];
  }
  return [
    ...checkWhatRuns(entry, [index]),
    ...Object.entries(entry).flatMap(([key, value]) => CHECKS.get(key)?.(value, [index, key]) ?? []),
    ...Object.keys(entry).flatMap((key) => misspelt(key, entry, index)),
  ];
}

const OF_A_RUN = ["preset", "model", "data", "set"] as const;

function checkWhatRuns(entry: Entry, path: Path): readonly Finding[] {
  const found: Finding[] = [];
  if (!("name" in entry))
    found.push(finding("missing", path, undefined, "has no name", 'add "name": a unique one in lower case'));
  const given = OF_A_RUN.filter((field) => field in entry);
  const fromMatrix = OF_A_RUN.filter((field) => isRecord(entry.matrix) && field in entry.matrix);
  if ("command" in entry && given.length > 0) {
    const reason = `has a command and also ${given.join(", ")}`;
    found.push(finding("both", path, undefined, reason, "keep the command, or the fields of a run of tunestack"));
  } else if (!("command" in entry) && ![...given, ...fromMatrix].some((field) => field !== "set")) {
    const remedy = 'add "command", or "preset", "model" or "data" for a run of tunestack';
    found.push(finding("missing", path, undefined, "says nothing to run", remedy));
  }
  return found;
}

/** An unknown field is allowed; one that is nearly a known field of which there is none is a slip. */
function misspelt(key: string, entry: Entry, index: number): readonly Finding[] {
  if (KNOWN_FIELDS.includes(key)) return [];
  const meant = KNOWN_FIELDS.find((field) => !(field in entry) && isOneSlip(key, field));
  if (meant === undefined) return [];
  const remedy = `write ${meant}, or give it another name`;
  return [finding("misspelt", [index, key], undefined, `is no field, and looks like ${meant}`, remedy)];
}

/** Whether one letter added, left out or changed, or two neighbours swapped, makes the word of the text. */
export function isOneSlip(text: string, word: string): boolean {
  if (text === word || Math.abs(text.length - word.length) > 1) return false;
  let at = 0;
  while (at < Math.min(text.length, word.length) && text[at] === word[at]) at += 1;
  const [rest, due] = [text.slice(at), word.slice(at)];
  if (rest === "" || due === "") return true;
  const swapped = rest.length > 1 && rest[1] === due[0] && rest[0] === due[1] && rest.slice(2) === due.slice(2);
  return swapped || rest.slice(1) === due.slice(1) || rest.slice(1) === due || rest === due.slice(1);
}

function textCheck({ empty }: { readonly empty: boolean }): Check {
  return (value, path) => {
    if (typeof value !== "string") return [finding("type", path, value, "is no text", "write a text in double quotes")];
    if (!empty && value.trim() === "")
      return [finding("range", path, value, "is empty", "write something, or remove the field")];
    return value.includes("\0") ? [finding("range", path, value, "holds a NUL character", "remove it")] : [];
  };
}

function wholeCheck(least: number, most: number, unit: string): Check {
  return (value, path) => {
    if (typeof value !== "number" || !Number.isInteger(value))
      return [finding("type", path, value, "is no whole number", `give ${unit}, without quotes`)];
    if (value >= least && value <= most) return [];
    return [finding("range", path, value, `is not from ${least} to ${most}`, `give ${unit}`)];
  };
}

const NAME_REMEDY =
  "take up to 63 of a-z, 0-9, . _ - beginning with a letter or digit, without .., and no . or .lock at the end";

const checkName: Check = (value, path) => {
  if (typeof value !== "string") return [finding("type", path, value, "is no text", "write a text in double quotes")];
  return isName(value) ? [] : [finding("name", path, value, "is no name of an experiment", NAME_REMEDY)];
};

const checkStatus: Check = (value, path) => {
  if (STATUSES.some((status) => status === value)) return [];
  return [finding("status", path, value, "is no status", `use one of: ${STATUSES.join(", ")}`)];
};

const checkNamesList: Check = (value, path) => {
  if (!Array.isArray(value)) return [finding("type", path, value, "is no list", "write the names in [ and ]")];
  return value.flatMap((name, at) =>
    typeof name === "string"
      ? []
      : [finding("type", [...path, at], name, "is no text", "write a name in double quotes")],
  );
};

const checkSet: Check = (value, path) => {
  if (!isRecord(value)) return [finding("type", path, value, "is no object", 'write {"max_steps": 200}')];
  return Object.entries(value).flatMap(([key, one]) =>
    isValue(one) ? [] : [finding("type", [...path, key], one, "cannot be the value of a setting", VALUE_REMEDY)],
  );
};

const VALUE_REMEDY = "give a text, a number, true or false";

const checkMatrix: Check = (value, path) => {
  if (!isRecord(value) || Object.keys(value).length === 0)
    return [finding("type", path, value, "is no object of lists", 'write {"lr": [1e-4, 2e-4]}')];
  const found = Object.entries(value).flatMap(([key, values]) => checkKey(key, values, [...path, key]));
  const lists = Object.values(value).filter((values) => Array.isArray(values) && values.length > 0);
  const count = countChildren(lists as readonly (readonly unknown[])[]);
  if (count <= MOST_CHILDREN) return found;
  return [
    ...found,
    finding("range", path, undefined, `makes ${count} experiments`, `make it smaller: at most ${MOST_CHILDREN}`),
  ];
};

function checkKey(key: string, values: unknown, path: Path): readonly Finding[] {
  const found: Finding[] = [];
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(key)) {
    const remedy = "take letters, digits and underscores, not beginning with a digit";
    found.push(finding("matrix-key", path, undefined, "cannot be the name of a variable", remedy));
  }
  if (!Array.isArray(values) || values.length === 0) {
    return [...found, finding("type", path, values, "is no list of values", "write at least one value in [ and ]")];
  }
  const seen = new Set<string>();
  values.forEach((value: unknown, at) => {
    const place = [...path, at];
    if (!isValue(value)) {
      found.push(finding("type", place, value, "cannot be a value", VALUE_REMEDY));
      return;
    }
    const text = valueText(value);
    if (text.includes("\0")) found.push(finding("range", place, value, "holds a NUL character", "remove it"));
    if (seen.has(text))
      found.push(finding("matrix-repeated", place, value, "stands in the list twice", "remove one of the two"));
    seen.add(text);
  });
  return found;
}

const checkObject: Check = (value, path) =>
  isRecord(value) ? [] : [finding("type", path, value, "is no object", "remove it: runners write it")];

const checkChildren: Check = (value, path) => {
  if (!isRecord(value)) return checkObject(value, path);
  return Object.entries(value).flatMap(([name, child]) => [
    ...checkObject(child, [...path, name]),
    ...(isRecord(child) && "status" in child ? checkStatus(child.status, [...path, name, "status"]) : []),
  ]);
};

const CHECKS: ReadonlyMap<string, Check> = new Map<string, Check>([
  ["name", checkName],
  ...["command", "preset", "model", "data"].map((field): [string, Check] => [field, textCheck({ empty: false })]),
  ["set", checkSet],
  ["status", checkStatus],
  ["timeout", wholeCheck(1, LONGEST_TIMEOUT_SECONDS, `seconds from 1 to ${LONGEST_TIMEOUT_SECONDS}`)],
  ["description", textCheck({ empty: true })],
  ["needs", checkNamesList],
  ["matrix", checkMatrix],
  ["gpus", wholeCheck(0, 64, "how many GPUs it needs")],
  ["retries", wholeCheck(0, 100, "how often it is tried again")],
  ["attempt", checkObject],
  ["children", checkChildren],
]);

/** An experiment's own name, then those of its children; nothing where they cannot be told. */
function namesOf(entry: unknown): readonly string[] {
  if (!isRecord(entry) || typeof entry.name !== "string" || !isName(entry.name)) return [];
  if (entry.matrix === undefined || checkMatrix(entry.matrix, []).length > 0) return [entry.name];
  const matrix = entry.matrix as Record<string, MatrixValue[]>;
  return [entry.name, ...childrenOf({ name: entry.name, matrix }).map(({ name }) => name)];
}

/** Names and children's names, which are folders and refs, belong to one experiment each. */
export function checkNames(entries: readonly unknown[]): readonly Finding[] {
  const first = new Map<string, number>();
  const found: Finding[] = [];
  entries.forEach((entry, index) => {
    if (!isRecord(entry)) return;
    for (const name of new Set(namesOf(entry))) {
      const owner = first.get(name);
      if (owner === undefined) first.set(name, index);
      else {
        const what = name === entry.name ? "" : `makes the child ${name}, which `;
        found.push(
          finding(
            "duplicate",
            [index, "name"],
            entry.name,
            `${what}is also the name of [${owner}]`,
            "give it another name",
          ),
        );
      }
    }
    if (typeof entry.name === "string" && "matrix" in entry && [...entry.name].length > LONGEST_MATRIX_NAME) {
      const reason = `is too long for an experiment with a matrix, whose children add to it`;
      found.push(
        finding("name", [index, "name"], entry.name, reason, `take at most ${LONGEST_MATRIX_NAME} characters`),
      );
    }
  });
  return found;
}

/** Needs that are not there, that are broken, or that wait for each other. @param broken places of entries with findings. */
export function checkNeeds(
  entries: readonly unknown[],
  broken: ReadonlySet<string | number | undefined>,
): readonly Finding[] {
  const owner = new Map<string, number>();
  entries.forEach((entry, index) => {
    for (const name of namesOf(entry)) if (!owner.has(name)) owner.set(name, index);
  });
  const found: Finding[] = [];
  const graph = new Map<number, number[]>();
  entries.forEach((entry, index) => {
    const needs: readonly unknown[] = isRecord(entry) && Array.isArray(entry.needs) ? entry.needs : [];
    needs.forEach((need, at) => {
      if (typeof need !== "string") return;
      const path = [index, "needs", at];
      const needed = owner.get(need);
      if (needed === undefined) {
        found.push(
          finding("needs-unknown", path, need, "is no experiment of this file", "correct the name, or add it"),
        );
        return;
      }
      graph.set(index, [...(graph.get(index) ?? []), needed]);
      if (broken.has(needed) && needed !== index)
        found.push(
          finding("needs-broken", path, need, `[${needed}] has a problem, so it is not run`, "correct that one first"),
        );
    });
  });
  for (const ring of rings(graph)) {
    const names = [...ring, ring[0] ?? 0].map((index) => nameAt(entries, index));
    const reason = `they wait for each other: ${names.join(" → ")}`;
    found.push(finding("needs-cycle", [ring[0] ?? 0, "needs"], undefined, reason, "take one of these needs away"));
  }
  return found;
}

function nameAt(entries: readonly unknown[], index: number): string {
  const entry = entries[index];
  return isRecord(entry) ? String(entry.name) : `[${index}]`;
}

/** Each ring once, from its first entry in the file. With a stack of its own: a chain may have thousands of links. */
function rings(graph: ReadonlyMap<number, readonly number[]>): readonly (readonly number[])[] {
  const done = new Set<number>();
  const found: number[][] = [];
  for (const start of graph.keys()) {
    const path: number[] = [];
    const stack: { readonly node: number; readonly leaving: boolean }[] = [{ node: start, leaving: false }];
    for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
      const { node, leaving } = top;
      if (leaving) {
        path.pop();
        done.add(node);
      } else if (path.includes(node)) {
        const ring = path.slice(path.indexOf(node));
        const first = ring.indexOf(Math.min(...ring));
        found.push([...ring.slice(first), ...ring.slice(0, first)]);
      } else if (!done.has(node)) {
        path.push(node);
        stack.push({ node, leaving: true });
        for (const after of [...(graph.get(node) ?? [])].reverse()) stack.push({ node: after, leaving: false });
      }
    }
  }
  return found;
}
