/** A value as the engine hands it over: JSON, in which one string stands for what is not known yet. */
export type Value = null | boolean | number | string | readonly Value[] | Properties;
export interface Properties {
  readonly [name: string]: Value;
}

/** The engine's mark for a value that is only known after an update. */
export const unknown = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

interface PropertyTraits {
  /** It cannot be left out. */
  readonly required?: true;
  /** The engine fills it in when it is left out, so leaving it out asks for nothing. */
  readonly computed?: true;
  /** A change of it makes a new resource instead of changing the old one. */
  readonly replaces?: true;
  /** It is told by the resource and never set. */
  readonly onlyOutput?: true;
  /** The official provider has it and this one does not. */
  readonly unsupported?: true;
}

interface Scalar extends PropertyTraits {
  readonly kind: "string" | "integer" | "boolean";
  readonly default?: string | number | boolean;
  /** What a string must match. */
  readonly pattern?: RegExp;
  /** The least that an integer may be. */
  readonly atLeast?: number;
  readonly format?: "duration" | "absolute path";
  /** Setting it to the empty string leaves what was there. */
  readonly emptyKeeps?: true;
}

interface Strings extends PropertyTraits {
  readonly kind: "strings";
  readonly order: "list" | "set";
}

interface StringMap extends PropertyTraits {
  readonly kind: "map";
}

interface ObjectList extends PropertyTraits {
  readonly kind: "objects";
  readonly shape: Shape;
}

interface OneObject extends PropertyTraits {
  readonly kind: "object";
  readonly shape: Shape;
}

export type Property = Scalar | Strings | StringMap | ObjectList | OneObject;

/** The properties of a resource, or of an object inside one, by their names in Pulumi. */
export interface Shape {
  readonly [name: string]: Property;
}

export function isProperties(value: Value | undefined): value is Properties {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isList(value: Value | undefined): value is readonly Value[] {
  return Array.isArray(value);
}

/** Whether a value is, or holds somewhere inside, one that is not known yet. */
export function hasUnknown(value: Value | undefined): boolean {
  if (value === unknown) return true;
  if (isList(value)) return value.some(hasUnknown);
  return isProperties(value) && Object.values(value).some(hasUnknown);
}

/** Whether a value says no more than leaving it out does: empty, zero, false. */
export function isZero(value: Value | undefined): boolean {
  if (value === undefined || value === null || value === "" || value === 0 || value === false) return true;
  if (isList(value)) return value.length === 0;
  return isProperties(value) && Object.keys(value).filter((name) => !name.startsWith("__")).length === 0;
}
