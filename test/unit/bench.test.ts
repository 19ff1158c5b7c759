import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatResult, isWithin, measure, median, readSizes } from "../../scripts/lib/bench.ts";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { MARK, markedRecords } from "../bench/lib/cleanup.ts";
import { withCudaPackages, withoutCacheMounts, withoutLayerOrder, withoutStages } from "../bench/lib/dockerfiles.ts";
import { readMeasures } from "../bench/lib/python.ts";

describe("bounds", () => {
  it.each([
    [1.5, "<= 1.5", true],
    [1.6, "<= 1.5", false],
    [0.2, "< 0.2", false],
    [20, ">= 20", true],
    [19.9, ">= 20", false],
    [1, "> 1", false],
    [0, "== 0", true],
    [1, "== 0", false],
  ])("%d %s: %s", (value, bound, holds) => {
    expect(isWithin(value, bound)).toBe(holds);
  });

  it("are written one way only", () => {
    expect(() => isWithin(1, "at most 2")).toThrow("no bound");
  });

  it("do not hold for what was not measured", () => {
    expect(measure("loss", null, "", "<= 1").holds).toBe(false);
    expect(measure("loss", null, "").holds).toBe(true);
  });
});

describe("sizes", () => {
  it("are the benchmark's own where nothing else is typed", () => {
    expect(readSizes([], { nodes: 10, runs: 50 })).toEqual({ nodes: 10, runs: 50 });
    expect(readSizes(["runs=7"], { nodes: 10, runs: 50 })).toEqual({ nodes: 10, runs: 7 });
    expect(readSizes([])).toEqual({});
  });

  it.each(["pods=3", "runs=", "runs=-1", "runs=0", "runs=many", "runs"])("%s is refused", (typed) => {
    expect(() => readSizes([typed], { runs: 50 })).toThrow(/--size = .*\n.*is no size/);
  });
});

describe("the median", () => {
  it("is not moved by one slow run", () => {
    expect(median([2, 1, 900])).toBe(2);
    expect(median([1, 2, 3, 900])).toBe(2.5);
  });

  it("lies within the values, whatever their order", () => {
    fc.assert(
      fc.property(fc.array(fc.integer(), { minLength: 1 }), (values) => {
        const middle = median(values);
        const below = values.filter((value) => value <= middle).length;
        const above = values.filter((value) => value >= middle).length;
        return below * 2 >= values.length && above * 2 >= values.length;
      }),
    );
  });

  it("is none of nothing", () => {
    expect(() => median([])).toThrow();
  });
});

describe("a result", () => {
  it("marks each bound and names what was not measured", () => {
    const measures = [measure("a", 1.23456, "s", "<= 1"), measure("b", null, "GB"), measure("c", 2, "×", "> 1")];
    const text = formatResult({ name: "noop", machine: "desk", commit: "abc", measures });
    expect(text).toMatch(/✗ +a +1\.23 s +<= 1/);
    expect(text).toMatch(/b +not measured/);
    expect(text).toMatch(/✓ +c +2 × +> 1/);
  });
});

describe("what a Python benchmark says", () => {
  const told = { measures: [{ name: "ratio", value: 2, unit: "×", bound: "<= 1" }] };

  it("is read out of whatever else was said", () => {
    const [ratio] = readMeasures(`loading\n${JSON.stringify(told)}\nbye\n`);
    expect(ratio).toMatchObject({ name: "ratio", value: 2, bound: "<= 1", holds: false });
  });

  it("must be measures with bounds that can be read", () => {
    const unread = { measures: [{ ...told.measures[0], bound: "at most 1" }] };
    expect(() => readMeasures(JSON.stringify(unread))).toThrow("no bound");
    expect(() => readMeasures("nothing")).toThrow("no measures");
    expect(() => readMeasures('{"measures": []}')).toThrow();
  });
});

describe("the build that a benchmark throws away", () => {
  const dockerfile = readFileSync(join(PROJECT_DIR, "images", "qlora", "Dockerfile"), "utf8");

  it("has the code before the packages", () => {
    const variant = withoutLayerOrder(dockerfile);
    expect(variant.indexOf("COPY src /opt/tunestack/src")).toBeLessThan(variant.indexOf("RUN "));
    expect(dockerfile.indexOf("COPY src /opt/tunestack/src")).toBeGreaterThan(dockerfile.indexOf("uv pip install"));
    expect(variant).toContain(MARK);
  });

  it("has PyTorch for CUDA, whatever a build is told", () => {
    const told = (text: string) => text.match(/^(ARG|ENV) PYTHON_SET.*$/gm);
    expect(told(dockerfile)).toEqual(["ARG PYTHON_SET=cu126"]);
    expect(told(withCudaPackages(dockerfile))).toEqual(["ENV PYTHON_SET=cu126"]);
  });

  it("fetches every package again where it is a full one", () => {
    const variant = withoutCacheMounts(dockerfile);
    expect(variant).not.toContain("type=cache");
    expect(variant.match(/--mount=type=bind/g)?.length).toBe(dockerfile.match(/--mount=type=bind/g)?.length);
    expect(() => withoutCacheMounts(variant)).toThrow("no cache mounts");
  });

  it("installs by the lock files that there are", () => {
    for (const lock of withoutStages("debian", "cpu").match(/requirements\.\S+\.lock/g) ?? []) {
      expect(() => readFileSync(join(PROJECT_DIR, "images", "qlora", lock))).not.toThrow();
    }
  });

  it("is found in the cache with all that stands on it, which goes first", () => {
    const records = [
      { ID: "base", Description: "local source", Parent: "" },
      { ID: "run", Description: `mount / from exec /usr/bin/env ${MARK} /bin/bash`, Parent: "base" },
      { ID: "copy", Description: "fileop target", Parents: ["run"] },
      { ID: "merge", Description: "fileop target", Parents: ["copy", "run"] },
      { ID: "other", Description: "mount / from exec /bin/bash", Parent: "base" },
    ];
    expect(markedRecords(records)).toEqual(["merge", "copy", "run"]);
  });

  it("leaves the cache of others alone", () => {
    expect(markedRecords([{ ID: "other", Description: "mount / from exec /bin/bash", Parent: "base" }])).toEqual([]);
  });
});
