import { randomBytes } from "node:crypto";
import { parseDuration } from "./duration.ts";
import {
  hasUnknown,
  isList,
  isProperties,
  type Properties,
  type Property,
  type Shape,
  unknown,
  type Value,
} from "./shape.ts";

export interface Problem {
  /** The property, as `mounts[0].type`. */
  readonly path: string;
  readonly reason: string;
}

export interface Checked {
  readonly inputs: Properties;
  readonly problems: readonly Problem[];
}

/** The key under which the names of filled-in properties are kept, as the official provider does. */
const defaultsKey = "__defaults";

function wrongKind(property: Property, value: Value): string | undefined {
  switch (property.kind) {
    case "string":
      return isList(value) || isProperties(value) ? "it must be a string" : undefined;
    case "integer":
      return Number.isInteger(typeof value === "string" ? Number(value) : value)
        ? undefined
        : "it must be a whole number";
    case "boolean":
      return typeof value === "boolean" || value === "true" || value === "false"
        ? undefined
        : "it must be true or false";
    case "strings":
    case "objects":
      return isList(value) ? undefined : "it must be a list";
    case "map":
    case "object":
      return isProperties(value) ? undefined : "it must be an object";
  }
}

function scalarProblem(property: Property, value: Value): string | undefined {
  if (property.kind !== "string" && property.kind !== "integer") return undefined;
  const text = String(value);
  if (property.pattern !== undefined && !property.pattern.test(text)) {
    return `'${text}' doesn't match the pattern '${property.pattern.source}'`;
  }
  if (property.atLeast !== undefined && Number(value) < property.atLeast) {
    return `'${text}' cannot be lower than ${property.atLeast}`;
  }
  if (property.format === "duration") {
    const nanoseconds = parseDuration(text);
    if (nanoseconds === undefined) return `'${text}' is not a valid duration`;
    if (nanoseconds < 0) return `'${text}' duration must not be negative`;
  }
  if (property.format === "absolute path" && !text.startsWith("/")) return `'${text}' must be an absolute path`;
  return undefined;
}

/** Values come in the kinds that the program wrote; the state has them in the kinds of the schema. */
function converted(property: Property, value: Value): Value {
  if (property.kind === "integer" && typeof value === "string") return Number(value);
  if (property.kind === "boolean" && typeof value === "string") return value === "true";
  if (property.kind === "string" && (typeof value === "number" || typeof value === "boolean")) return String(value);
  if (property.kind === "strings" && isList(value)) return value.map((one) => (one === null ? "" : one));
  return value;
}

function checkValue(property: Property, value: Value, path: string, problems: Problem[]): Value {
  if (value === unknown) return value;
  const wrong = wrongKind(property, value) ?? scalarProblem(property, value);
  if (wrong !== undefined) {
    problems.push({ path, reason: wrong });
    return value;
  }
  if (property.kind === "object" && isProperties(value)) return checkShape(property.shape, value, `${path}.`, problems);
  if (property.kind === "objects" && isList(value)) {
    return value.map((one, index) =>
      isProperties(one) ? checkShape(property.shape, one, `${path}[${index}].`, problems) : one,
    );
  }
  return converted(property, value);
}

/** Fills in defaults and notes every problem; what was filled in is named under `__defaults`. */
function checkShape(shape: Shape, given: Properties, prefix: string, problems: Problem[]): Properties {
  const checked: Record<string, Value> = {};
  const filledIn: string[] = [];
  for (const [name, value] of Object.entries(given)) {
    if (value === null || name === defaultsKey) continue;
    const property = shape[name];
    const path = `${prefix}${name}`;
    if (property === undefined) {
      problems.push({ path, reason: "there is no such property" });
    } else if (property.onlyOutput) {
      problems.push({ path, reason: "it is told by the resource and cannot be set" });
    } else if (property.unsupported) {
      problems.push({
        path,
        reason:
          "this stand-in of the Docker provider doesn't cover it; the official provider does, where it can be had",
      });
    } else {
      checked[name] = checkValue(property, value, path, problems);
    }
  }
  for (const [name, property] of Object.entries(shape)) {
    if (checked[name] !== undefined || problems.some(({ path }) => path === `${prefix}${name}`)) continue;
    if (property.required) problems.push({ path: `${prefix}${name}`, reason: "it is required and missing" });
    if ("default" in property && property.default !== undefined) {
      checked[name] = property.default;
      filledIn.push(name);
    }
  }
  return { ...checked, [defaultsKey]: filledIn.sort() };
}

/** The name in a URN, which is what the program calls the resource. */
export function logicalName(urn: string): string {
  return urn.slice(urn.lastIndexOf("::") + 2);
}

/**
 * Where a program gives no name, one is made of the resource's logical name and seven random hexadecimal digits, and
 * kept for as long as the resource lives.
 */
function withName(urn: string, given: Properties, old: Properties, seed: Uint8Array): Properties {
  if (given.name !== undefined && given.name !== null) return given;
  const kept = isList(old[defaultsKey]) && old[defaultsKey].includes("name") ? old.name : undefined;
  const random = seed.length >= 4 ? Buffer.from(seed) : randomBytes(4);
  return { ...given, name: kept ?? `${logicalName(urn)}-${random.toString("hex").slice(0, 7)}` };
}

export interface CheckRequest {
  readonly shape: Shape;
  readonly urn: string;
  readonly given: Properties;
  readonly old: Properties;
  readonly seed: Uint8Array;
  /** Whether a missing name is made up. */
  readonly named: boolean;
}

export function check(request: CheckRequest): Checked {
  const { shape, given } = request;
  const complete = request.named ? withName(request.urn, given, request.old, request.seed) : given;
  const problems: Problem[] = [];
  const inputs = checkShape(shape, complete, "", problems);
  if (!hasUnknown(given.gpus) && given.gpus !== undefined && given.deviceRequests !== undefined) {
    problems.push({ path: "deviceRequests", reason: "it cannot be used together with gpus: leave one of the two out" });
  }
  if (complete === given) return { inputs, problems };
  const filledIn = isList(inputs[defaultsKey]) ? inputs[defaultsKey] : [];
  return { inputs: { ...inputs, [defaultsKey]: [...filledIn, "name"].sort() }, problems };
}
