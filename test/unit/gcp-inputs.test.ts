import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { ProviderTypes } from "../lib/provider-types.ts";

interface Registered {
  readonly type: string;
  readonly name: string;
  readonly inputs: Readonly<Record<string, unknown>>;
}

const MOCKS = join(PROJECT_DIR, "test", "golden", "mocks");

/** Exactly what stacks register: the tests with mocks hold these files to it. */
const registered = ["gcp-vm.json", "gcp-colab.json", "gke.json"]
  .flatMap((file) => JSON.parse(readFileSync(join(MOCKS, file), "utf8")) as readonly Registered[])
  .filter(({ type }) => type.startsWith("gcp:"));

const types = new ProviderTypes("gcp");

describe("what is registered at Google's provider", () => {
  test.each([...new Set(registered.map(({ type }) => type))])("%s: names and values that it knows", (type) => {
    const refused = registered
      .filter((one) => one.type === type)
      .flatMap(({ name, inputs }) => types.refusals(type, inputs).map((line) => `${name}: ${line}`));
    expect(refused).toEqual([]);
  });
});

describe("the check", () => {
  const inputs = (type: string) => {
    const found = registered.find((one) => one.type === type);
    if (found === undefined) throw new Error(`no ${type} is registered`);
    return found.inputs;
  };
  const group = "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager";

  test.each([
    ["gcp:compute/network:Network", { routingMode: "LOCAL" }, /^.*\.routingMode: LOCAL is none of GLOBAL, REGIONAL$/],
    ["gcp:compute/network:Network", { autoCreateSubnets: true }, /\.autoCreateSubnets: no such field$/],
    [group, { updatePolicy: { type: "EAGER" } }, /\.updatePolicy\.type: EAGER is none of OPPORTUNISTIC, PROACTIVE/],
    [group, { versions: [{ template: "x" }] }, /\.versions\[0\]\.template: no such field$/],
  ] as const)("finds what %s does not take", (type, change, line) => {
    expect(types.refusals(type, { ...inputs(type), ...change })).toEqual([expect.stringMatching(line)]);
  });

  test("knows the values of what is chosen from a few", () => {
    // As many as have one now: a change of how the package tells them would empty the check.
    const wrong = registered.flatMap(({ type, inputs: given }) => types.refusals(type, shout(given)));
    expect(wrong.filter((line) => line.includes(" is none of ")).length).toBeGreaterThan(12);
  });
});

/** Every text in capitals gets a letter more. */
function shout(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shout);
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, shout(item)]));
  return typeof value === "string" && /^[A-Z][A-Z_]+$/.test(value) ? `${value}X` : value;
}
