import { MASKED, UNKNOWN } from "../../policy/secrets.ts";
import type { PreviewedResource } from "../../policy/types.ts";
import type { Registration } from "./pulumi-mocks.ts";

/** Pulumi's mark of a secret in what goes to the engine. */
export const SECRET_MARK = "4dabf18193072939515e22adb298388d";

/** What is registered, as the rules of a preview see it: secrets masked, ids not known yet. */
export function previewed(registrations: readonly Registration[]): readonly PreviewedResource[] {
  return registrations.map(({ type, name, inputs, retainOnDelete }) => {
    const masked = JSON.stringify(inputs, (_key, value: unknown) => {
      if (typeof value === "object" && value !== null && SECRET_MARK in value) return MASKED;
      return typeof value === "string" && /^<(name|email) of |^tunestack-.*-id$/.test(value) ? UNKNOWN : value;
    });
    const plain: PreviewedResource["inputs"] = JSON.parse(masked);
    return { type, name, operation: "create", inputs: plain, before: undefined, retainOnDelete, protect: false };
  });
}

export function find(registrations: readonly Registration[], name: string): Registration {
  const found = registrations.find((one) => one.name === name);
  if (found === undefined) throw new Error(`nothing was registered as ${name}`);
  return found;
}
