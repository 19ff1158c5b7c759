import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isRecord, mergeLayers, type RawSettings } from "../../stacks/settings/layers.ts";

const leaf = fc.oneof(
  fc.string(),
  fc.integer(),
  fc.boolean(),
  fc.constant(null),
  fc.array(fc.integer(), { maxLength: 3 }),
);
const key = fc.constantFrom("a", "b", "c", "wandb-local");
const { settings } = fc.letrec<{ settings: RawSettings; value: unknown }>((tie) => ({
  settings: fc.dictionary(key, tie("value"), { maxKeys: 4 }),
  value: fc.oneof({ maxDepth: 3, withCrossShrink: true }, leaf, tie("settings")),
}));
const layers = fc
  .array(settings, { maxLength: 4 })
  .map((all) => all.map((values, index) => ({ source: `layer ${index}`, values })));

/** Paths of all that is not a map. */
function leaves(values: RawSettings, parent = ""): string[] {
  return Object.entries(values).flatMap(([name, value]) => {
    const path = parent === "" ? name : `${parent}.${name}`;
    return isRecord(value) ? leaves(value, path) : [path];
  });
}

function at(values: RawSettings, path: string): unknown {
  return path.split(".").reduce<unknown>((here, name) => (isRecord(here) ? here[name] : undefined), values);
}

describe("mergeLayers", () => {
  test("each leaf has exactly one source, which is the last layer that sets it to this value", () => {
    fc.assert(
      fc.property(layers, (given) => {
        const { values, sources } = mergeLayers(given);
        expect([...sources.keys()].sort()).toEqual(leaves(values).sort());
        for (const [path, source] of sources) {
          const giver = given.find((layer) => layer.source === source);
          expect(at(giver?.values ?? {}, path)).toEqual(at(values, path));
        }
      }),
    );
  });

  test("leaves its inputs as they are", () => {
    fc.assert(
      fc.property(layers, (given) => {
        const before = structuredClone(given);
        mergeLayers(given);
        expect(given).toEqual(before);
      }),
    );
  });

  test("a layer on top of itself changes nothing", () => {
    fc.assert(
      fc.property(layers, (given) => {
        expect(mergeLayers([...given, ...given.slice(-1)]).values).toEqual(mergeLayers(given).values);
      }),
    );
  });

  test("the later layer wins key by key, and a list replaces a list", () => {
    const merged = mergeLayers([
      { source: "default", values: { services: { jupyter: { port: 8888, memory: "16GiB" } }, profiles: ["a", "b"] } },
      { source: "mine", values: { services: { jupyter: { port: 9999 } }, profiles: ["c"] } },
    ]);
    expect(merged.values).toEqual({ services: { jupyter: { port: 9999, memory: "16GiB" } }, profiles: ["c"] });
    expect(Object.fromEntries(merged.sources)).toEqual({
      "services.jupyter.port": "mine",
      "services.jupyter.memory": "default",
      profiles: "mine",
    });
  });

  test("null takes a value away, or a map with all that is in it", () => {
    const merged = mergeLayers([
      { source: "default", values: { training: { preset: "rehearsal", set: { steps: 3 } }, image: { base: "auto" } } },
      { source: "mine", values: { training: { preset: null }, image: null } },
    ]);
    expect(merged.values).toEqual({ training: { set: { steps: 3 } } });
    expect([...merged.sources.keys()]).toEqual(["training.set.steps"]);
  });
});
