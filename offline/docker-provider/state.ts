import { diff } from "./diff.ts";
import type { Resource } from "./resource.ts";
import { isList, isProperties, isZero, type Properties, unknown, type Value } from "./shape.ts";

/** Values without the marks that the engine's inputs carry (`__defaults` at every depth, `__meta`). */
export function withoutMarks(value: Properties): Properties {
  const bare = (one: Value): Value => {
    if (isList(one)) return one.map(bare);
    return isProperties(one) ? withoutMarks(one) : one;
  };
  const entries = Object.entries(value).filter(([name, one]) => !name.startsWith("__") && one !== undefined);
  return Object.fromEntries(entries.map(([name, one]) => [name, bare(one)]));
}

/** The key under which Terraform's plugins keep the time limits of a resource. */
const timeoutsKey = "e2bfb730-ecaa-11e6-8f88-34363bc7c4c0";
const twentyMinutes = 20 * 60 * 1e9;

/** The state as it is kept, with what the official provider needs to take over from here. */
export function withMeta(resource: Resource, state: Properties): Properties {
  const meta = {
    ...(resource.timeouts.length === 0
      ? {}
      : { [timeoutsKey]: Object.fromEntries(resource.timeouts.map((one) => [one, twentyMinutes])) }),
    ...(resource.schemaVersion === 0 ? {} : { schema_version: String(resource.schemaVersion) }),
  };
  const told = Object.entries(state).filter(([, value]) => value !== undefined && value !== null);
  const known = Object.fromEntries(told);
  return Object.keys(meta).length === 0 ? known : { ...known, __meta: JSON.stringify(meta) };
}

/** The state that a creation would give, as far as it can be told beforehand. */
export function plannedState(resource: Resource, inputs: Properties): Properties {
  const later = Object.entries(resource.shape)
    .filter(([name, property]) => property.computed && inputs[name] === undefined)
    .map(([name]) => [name, unknown] as const);
  return { ...inputs, ...Object.fromEntries(later) };
}

/**
 * The inputs that would give a state: the old ones where they still hold, what was found where it differs. For a
 * resource that is imported there are no old inputs, and every property that says something becomes one.
 */
export function inputsFromState(resource: Resource, inputs: Properties, state: Properties): Properties {
  const settable = Object.entries(resource.shape).filter(([, property]) => !property.onlyOutput);
  const imported = Object.keys(withoutMarks(inputs)).length === 0;
  const found: Record<string, Value> = {};
  for (const [name, property] of settable) {
    const old = inputs[name];
    const now = state[name];
    const standard = "default" in property ? property.default : undefined;
    if (imported) {
      if (!isZero(now) && now !== undefined && now !== standard) found[name] = now;
    } else if (old !== undefined) {
      const differs = diff({ [name]: property }, { [name]: now ?? null }, { [name]: old }).length > 0;
      found[name] = differs ? (now ?? null) : old;
    }
  }
  // Which properties were filled in is remembered: a made-up name would otherwise be made up anew.
  if (inputs.__defaults !== undefined) found.__defaults = inputs.__defaults;
  return found;
}
