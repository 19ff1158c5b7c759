import { findNodeAtLocation, type Node, type ParseError, parseTree, printParseErrorCode } from "jsonc-parser";
import { isRecord } from "../../../stacks/settings/layers.ts";
import { type Problem, showValue } from "../../../stacks/settings/problems.ts";
import { EXIT, UserError } from "../errors.ts";
import { checkEntry, checkNames, checkNeeds, type Finding, type Path } from "./checks.ts";
import { type Experiment, experimentSchema, QUEUE_FILE } from "./format.ts";

/** Something wrong with the queue's file. */
export interface QueueProblem {
  /** For programs; the same as the runner's. Example: `needs-unknown`. */
  readonly code: string;
  /** From 1. */
  readonly line: number;
  /** Example: `[2].matrix.lr`. */
  readonly path: string;
  /** Place in the list; undefined where the file itself has the problem. */
  readonly index: number | undefined;
  /** Of the experiment that has it, where it has one. */
  readonly experiment: string | undefined;
  readonly value?: string | undefined;
  readonly reason: string;
  readonly remedy: string;
}

export interface ReadQueue {
  /** As it stands in the file; empty where that is no list. */
  readonly entries: readonly unknown[];
  /** Those without a problem. */
  readonly experiments: readonly Experiment[];
  readonly problems: readonly QueueProblem[];
}

/** Reads the queue's file and finds all that is wrong with it, in the order of its lines. */
export function readQueue(text: string): ReadQueue {
  const errors: ParseError[] = [];
  const tree = parseTree(text, errors, { disallowComments: true, allowTrailingComma: false });
  const content = jsonOf(text);
  if (content === undefined) return nothing(noJson(text, errors[0]));
  if (!Array.isArray(content)) {
    const remedy = 'write a list of experiments: [{ "name": "first", "command": "python train.py" }]';
    return nothing({ code: "list", path: [], value: showValue(content), reason: "is no list", remedy, line: 1 });
  }
  const entries: readonly unknown[] = content;
  const findings = entries.flatMap((entry, index) => checkEntry(entry, index));
  findings.push(...checkNames(entries));
  findings.push(...checkNeeds(entries, new Set(findings.map(({ path }) => path[0]))));
  const found: readonly Located[] = [...findings, ...repeatedKeys(tree)];
  const problems = found
    .map((finding) => placed(finding, entries, lineOf(text, tree, finding.path, finding.offset)))
    .sort((a, b) => a.line - b.line || (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  const broken = new Set(problems.map(({ index }) => index));
  const experiments = entries.flatMap((entry, index) => (broken.has(index) ? [] : [experimentSchema.parse(entry)]));
  return { entries, experiments, problems };
}

/** The experiments of a file. @throws UserError with every problem, by file and line. */
export function requireQueue(text: string, file = QUEUE_FILE): readonly Experiment[] {
  const { experiments, problems } = readQueue(text);
  if (problems.length > 0)
    throw new UserError(
      problems.map((problem) => toProblem(problem, file)),
      EXIT.settings,
      `file ${file}`,
    );
  return experiments;
}

/** What is wrong with the file as a whole, so that none of its experiments can be told; undefined where they can. */
export function fileProblem(problems: readonly QueueProblem[]): QueueProblem | undefined {
  return problems.find(({ index }) => index === undefined);
}

export function toProblem({ line, path, experiment, value, reason, remedy }: QueueProblem, file: string): Problem {
  const inside = path === "" ? "" : ` ${path}${experiment === undefined ? "" : ` (${experiment})`}`;
  return { path: `${file}:${line}${inside}`, value, reason, remedy };
}

/** A finding with the place in the text that it is told at, where that is not the place of its path. */
interface Located extends Finding {
  readonly offset?: number;
}

function placed(
  { code, path, value, reason, remedy }: Finding,
  entries: readonly unknown[],
  line: number,
): QueueProblem {
  const [index] = path;
  const entry = typeof index === "number" ? entries[index] : undefined;
  return {
    code,
    line,
    path: pathText(path),
    index: typeof index === "number" ? index : undefined,
    experiment: isRecord(entry) && typeof entry.name === "string" ? entry.name : undefined,
    value,
    reason,
    remedy,
  };
}

function nothing({ line, ...finding }: Finding & { readonly line: number }): ReadQueue {
  return { entries: [], experiments: [], problems: [placed(finding, [], line)] };
}

/** Node's own parser has the last word on what JSON is. */
function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function noJson(text: string, error: ParseError | undefined): Finding & { readonly line: number } {
  const at = error?.offset ?? text.length;
  // After a comma too many the mistake is the comma and not what comes next.
  const before = text.slice(0, at).trimEnd();
  const closing = text[at] ?? "";
  const commaTooMany = before.endsWith(",") && /[\]}]/.test(closing);
  const said =
    error === undefined
      ? ""
      : `: ${printParseErrorCode(error.error)
          .replaceAll(/(?<!^)([A-Z])/g, " $1")
          .toLowerCase()}`;
  return {
    code: "syntax",
    path: [],
    value: undefined,
    line: lineAt(text, commaTooMany ? before.length : at),
    reason: `is no JSON${commaTooMany ? `: there is a comma too many before ${closing}` : said}`,
    remedy: "mend the JSON at this line: commas between entries and none after the last, double quotes, no comments",
  };
}

function lineAt(text: string, offset: number): number {
  return text.slice(0, offset).split("\n").length;
}

/** The line of a value of a JSON text; of what is missing, that of the nearest thing around it. */
function lineOf(text: string, tree: Node | undefined, path: Path, offset: number | undefined): number {
  if (offset !== undefined) return lineAt(text, offset);
  for (let length = path.length; tree !== undefined && length > 0; length -= 1) {
    const node = findNodeAtLocation(tree, [...path.slice(0, length)]);
    if (node !== undefined) return lineAt(text, node.offset);
  }
  return 1;
}

/** A key that is given twice is silently its last value. */
function repeatedKeys(node: Node | undefined, path: Path = []): readonly Located[] {
  if (node?.type === "array")
    return (node.children ?? []).flatMap((child, index) => repeatedKeys(child, [...path, index]));
  if (node?.type !== "object") return [];
  const seen = new Set<unknown>();
  return (node.children ?? []).flatMap((property): readonly Located[] => {
    const [keyNode, valueNode] = property.children ?? [];
    const key: unknown = keyNode?.value;
    if (keyNode === undefined || typeof key !== "string") return [];
    const inside = repeatedKeys(valueNode, [...path, key]);
    if (!seen.has(key)) {
      seen.add(key);
      return inside;
    }
    const repeated = { code: "repeated", path: [...path, key], value: undefined, offset: keyNode.offset };
    return [{ ...repeated, reason: "is given twice", remedy: "keep one of the two" }, ...inside];
  });
}

function pathText(path: Path): string {
  return path.map((key, index) => (typeof key === "number" ? `[${key}]` : index === 0 ? key : `.${key}`)).join("");
}
