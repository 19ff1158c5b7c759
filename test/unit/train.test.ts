import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseSettings } from "../../scripts/lib/assignments.ts";
import { EXIT, UserError } from "../../scripts/lib/errors.ts";
import { defaultName, withProfiles } from "../../scripts/lib/train.ts";
import { resolveSettings } from "../../stacks/settings/resolve.ts";
import { stackInputs } from "../lib/inputs.ts";

const NOW = new Date(2026, 10, 23, 22, 15);

describe("defaultName", () => {
  test.each([
    [{ preset: "gemma-2b", model: undefined }, "gemma-2b-1123-2215"],
    [{ preset: undefined, model: "google/gemma-2-2b" }, "gemma-2-2b-1123-2215"],
    [{ preset: undefined, model: "./My Models/Große_7B" }, "gro-e-7b-1123-2215"],
    [{ preset: undefined, model: "/models/mine/" }, "mine-1123-2215"],
    [{ preset: undefined, model: undefined }, "run-1123-2215"],
  ] as const)("%j is named %s", (request, name) => {
    expect(defaultName(request, NOW)).toBe(name);
  });

  test("is a run name, whatever the model is called and whenever it is", () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 200, size: "max" }), fc.date({ noInvalidDate: true }), (model, now) => {
        const run = defaultName({ preset: undefined, model }, now);
        const { settings } = resolveSettings([{ source: "test", values: { training: { run, preset: "rehearsal" } } }]);
        expect(settings.training.run).toBe(run);
      }),
    );
  });
});

describe("parseSettings", () => {
  test("takes key=value; the value may hold what it likes", () => {
    expect(parseSettings(["max_steps=5", "note=a=b c", "optim.name="])).toEqual({
      max_steps: "5",
      note: "a=b c",
      "optim.name": "",
    });
    expect(parseSettings([])).toEqual({});
  });

  test("tells every mistake at once", () => {
    const wrong = ["max_steps", "=5", "Max=1", "a b=1"];
    let caught: unknown;
    try {
      parseSettings([...wrong, "fine=1"]);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(UserError);
    if (!(caught instanceof UserError)) return;
    expect(caught.exitCode).toBe(EXIT.settings);
    expect(caught.problems).toEqual(
      wrong.map((value) => ({
        path: "--set",
        value,
        reason: "is not key=value",
        remedy: "write it as --set max_steps=200",
      })),
    );
  });
});

test("profiles that are asked for come beside those that are on", () => {
  const inputs = stackInputs({ settings: { profiles: ["training"] } });
  expect(withProfiles(inputs, ["dev", "training"])).toEqual(["training", "dev"]);
});
