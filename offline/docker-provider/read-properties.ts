import { isList, isProperties, type Properties, type Value } from "./shape.ts";

// Checked inputs are of the kinds that their shape says; these give them to TypeScript.

export function text(value: Value | undefined): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

export function integer(value: Value | undefined): number | undefined {
  return typeof value === "number" ? value : undefined;
}

export function flag(value: Value | undefined): boolean {
  return value === true;
}

export function strings(value: Value | undefined): readonly string[] {
  return isList(value) ? value.map((one) => (one === null ? "" : String(one))) : [];
}

export function objects(value: Value | undefined): readonly Properties[] {
  return isList(value) ? value.filter(isProperties) : [];
}

export function object(value: Value | undefined): Properties | undefined {
  return isProperties(value) ? value : undefined;
}

export function stringMap(value: Value | undefined): Record<string, string> | undefined {
  if (!isProperties(value)) return undefined;
  const entries = Object.entries(value).filter(([name]) => !name.startsWith("__"));
  return entries.length === 0 ? undefined : Object.fromEntries(entries.map(([name, one]) => [name, String(one)]));
}

export function labelMap(value: Value | undefined): Record<string, string> | undefined {
  const labels = objects(value);
  if (labels.length === 0) return undefined;
  return Object.fromEntries(labels.map((one) => [String(one.label), String(one.value ?? "")]));
}

export function labelList(labels: Readonly<Record<string, string>> | null | undefined): readonly Properties[] {
  return Object.entries(labels ?? {}).map(([label, value]) => ({ label, value }));
}
