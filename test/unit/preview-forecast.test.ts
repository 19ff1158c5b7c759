import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Experiment, experimentSchema } from "../../scripts/lib/experiments/format.ts";
import { Git } from "../../scripts/lib/experiments/git.ts";
import { type Estimated, estimateHere } from "../../scripts/lib/preview/estimates.ts";
import { ESTIMATED_AS, type Forecasts, forecast, pendingWork, queueOf } from "../../scripts/lib/preview/forecast.ts";
import { forecastLines, runCostLine } from "../../scripts/lib/preview/forecast-report.ts";
import { type Live, NO_RUN } from "../../scripts/lib/preview/live.ts";
import { type Place, placeOf } from "../../scripts/lib/preview/place.ts";
import { asJson, type FinishedPreview } from "../../scripts/lib/preview/report.ts";
import { GCP, gcpInputs, stackInputs } from "../lib/inputs.ts";
import { QUEUE } from "../lib/rendered.ts";

const L4: Place = { words: "one L4 in us-central1, on spot", gpu: "L4", gpus: 1, perHour: 0.5, rented: true };
const GIB = 2 ** 30;

function experiments(...list: readonly object[]): readonly Experiment[] {
  return list.map((one) => experimentSchema.parse(one));
}

/** Every run takes two hours and a quarter of the GPU; one with `huge` in its arguments does not fit. */
async function estimate(args: readonly string[]): Promise<Estimated> {
  const huge = args.some((argument) => argument.includes("huge"));
  return {
    schema: 1,
    device: "l4",
    device_memory_bytes: 24 * GIB,
    memory_bytes: (huge ? 30 : 6) * GIB,
    verdict: huge ? "too large" : "fits",
    seconds: 7200,
    time_source: "assumed: 30% of 121 TFLOPS",
  };
}

function preview(forecasts: Forecasts | undefined, live: Live = NO_RUN, place = L4): FinishedPreview {
  const rest = { resources: [], violations: [], isNew: false } as const;
  return { kind: "finished", stack: "prod", ...rest, live, place, forecasts };
}

describe("pending work", () => {
  test("is what waits: no experiment that runs or has ended, the children of a matrix one by one", () => {
    const found = pendingWork(
      experiments(
        { name: "done", command: "true", status: "completed" },
        { name: "waits", command: "python x.py", timeout: 600 },
        {
          name: "sweep",
          preset: "gemma-2b",
          set: { lora_r: 8 },
          matrix: { learning_rate: [0.0001, 0.0002], data: ["a.jsonl"] },
          children: { "sweep.learning_rate-0.0001.data-a.jsonl": { status: "running" } },
        },
        { name: "gone", preset: "gemma-2b", matrix: { seed: [1, 2] }, status: "cancelled" },
      ),
    );
    expect(found).toEqual([
      { kind: "experiment", name: "waits", args: undefined, gpus: 1, timeoutSeconds: 600 },
      {
        kind: "experiment",
        name: "sweep.learning_rate-0.0002.data-a.jsonl",
        args: ["--preset=gemma-2b", "--set=lora_r=8", "--set=learning_rate=0.0002"],
        gpus: 1,
        timeoutSeconds: 3600,
      },
    ]);
  });

  test("takes preset and model of a matrix for those of the run", () => {
    const [one] = pendingWork(
      experiments({ name: "a", preset: "gemma-2b", matrix: { model: ["x/y"], preset: ["p"] } }),
    );
    expect(one?.args).toEqual(["--preset=p", "--model=x/y"]);
  });
});

describe("a stack", () => {
  test("that rents a GPU is told what its run would take there", async () => {
    const inputs = gcpInputs({ gcp: { gpus: ["A100-80"], provisioning: "standard" } });
    const asked: (readonly string[])[] = [];
    const spy = async (args: readonly string[]) => {
      asked.push(args);
      return await estimate(args);
    };
    const place = placeOf(inputs.settings);
    expect(place).toMatchObject({ words: "one A100-80 in us-central1, at the standard price", perHour: 5.0688 });
    const found = await forecast(inputs, { place, estimate: spy, queue: queueOf(inputs) });
    expect(asked).toEqual([["--preset=rehearsal", "--gpu=a100-80gb"]]);
    expect(found).toMatchObject({ more: 0, unread: undefined });
    expect(found?.work).toMatchObject([{ kind: "run", name: "first-run", seconds: 7200, cost: 2 * 5.0688 }]);
  });

  test("in a cluster is told what all nodes of its run take, and in one of one's own what is not known", async () => {
    const gke = {
      ...GCP,
      zones: ["us-central1-a"],
      run: { nodes: 2 },
      queue: { pools: [{ gpu: "L4", provisioning: "spot" }] },
    };
    const rented = placeOf(stackInputs({ settings: { target: "gke", gke } }).settings);
    expect(rented).toMatchObject({ words: "2 nodes with 1 L4 each in us-central1, on spot", gpu: "L4", gpus: 2 });
    expect(rented.perHour).toBeCloseTo(2 * 0.4799, 6);
    const kubernetes = { registry: "registry.example/ml", queue: { pools: [{ gpu: "none" }] } };
    const own = placeOf(stackInputs({ settings: { target: "kubernetes", kubernetes } }).settings);
    expect(own).toMatchObject({ words: "a node without a GPU", gpu: undefined, rented: false });
  });

  test("on a machine of one's own, without a runner, is told nothing", async () => {
    const inputs = stackInputs();
    const place = placeOf(inputs.settings);
    expect(await forecast(inputs, { place, estimate, queue: queueOf(inputs) })).toBeUndefined();
  });
});

describe("the queue of a stack's runner", () => {
  let folder: string;
  const git = (...args: string[]) => execFileSync("git", args, { cwd: folder, stdio: "ignore" });

  const commit = (list: readonly object[]) => {
    writeFileSync(join(folder, "experiments.json"), JSON.stringify(list));
    git("add", "--all");
    git("-c", "user.name=me", "-c", "user.email=me@example.com", "commit", "--quiet", "--message", "queue");
  };

  beforeEach(() => {
    vi.stubEnv("GIT_CONFIG_GLOBAL", "/dev/null");
    vi.stubEnv("GIT_CONFIG_SYSTEM", "/dev/null");
    folder = mkdtempSync(join(tmpdir(), "tunestack-forecast-"));
    git("init", "--quiet", "--initial-branch=gpu-experiments");
  });

  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true, force: true });
  });

  const serving = { profiles: ["experiments"], experiments: { repository: QUEUE } };
  const queue = () => ({ git: new Git(folder), remote: ".", branch: "gpu-experiments" });

  test("is read from its branch, and no more of it is estimated than a comment can show", async () => {
    const list = [
      { name: "sweep", preset: "gemma-2b", matrix: { seed: Array.from({ length: 44 }, (_, index) => index) } },
      { name: "last", command: "true" },
    ];
    commit(list);
    const inputs = stackInputs({ settings: serving });
    expect(queueOf(inputs)).toMatchObject({ remote: QUEUE, branch: "gpu-experiments" });
    const found = await forecast(inputs, { place: placeOf(inputs.settings), estimate, queue: queue() });
    expect(found?.work).toHaveLength(40);
    expect(found?.more).toBe(5);
    // A machine of one's own costs nothing by the hour.
    expect(found?.work[0]).toMatchObject({
      name: "sweep.seed-0",
      seconds: 7200,
      cost: undefined,
      costAtMost: undefined,
    });
  });

  test("costs what it takes until it ends or its timeout ends it", async () => {
    const list = [
      { name: "short", preset: "gemma-2b", timeout: 10_800 },
      { name: "cut", preset: "gemma-2b", timeout: 1800 },
      { name: "unknown", command: "true", timeout: 1800 },
      { name: "huge", preset: "gemma-2b", model: "huge" },
      { name: "cpu", preset: "rehearsal", gpus: 0 },
    ];
    commit(list);
    const inputs = stackInputs({ settings: serving });
    const found = await forecast(inputs, { place: L4, estimate, queue: queue() });
    expect(found?.work.map(({ name, seconds, cost, costAtMost }) => [name, seconds, cost, costAtMost])).toEqual([
      ["short", 7200, 1, 1.5],
      ["cut", 7200, 0.25, 0.25],
      ["unknown", undefined, undefined, 0.25],
      ["huge", undefined, undefined, 0.5],
      ["cpu", undefined, undefined, 0.5],
    ]);
    expect(found?.work.at(-1)?.reason).toBe("on the CPU, for which nothing is known");
  });

  test("that cannot be read leaves the rest to be told", async () => {
    const inputs = stackInputs({ settings: serving });
    const elsewhere = { ...queue(), remote: join(folder, "nowhere") };
    const found = await forecast(inputs, { place: placeOf(inputs.settings), estimate, queue: elsewhere });
    expect(found).toMatchObject({ work: [], unread: expect.stringMatching(/\S/) });
    expect(forecastLines(preview(found)).join("\n")).toContain("Pending experiments are not known: ");
  });
});

describe("the comment", () => {
  const row = {
    kind: "experiment",
    name: "a",
    timeoutSeconds: 3 * 3600,
    memoryBytes: 6 * GIB,
    deviceMemoryBytes: 24 * GIB,
    verdict: "fits",
    seconds: 7200,
    source: "assumed: 30% of 121 TFLOPS",
    cost: 1,
    costAtMost: 1.5,
    reason: undefined,
  } as const;
  const unknown = { memoryBytes: undefined, deviceMemoryBytes: undefined, verdict: undefined, seconds: undefined };
  const command = { ...row, name: "b", ...unknown, source: undefined, cost: undefined, reason: "a command" };

  test("has memory, time and cost of each, and of all together", () => {
    const work = [row, command, { ...row, name: "big", memoryBytes: 30 * GIB, verdict: "too large" as const }];
    expect(forecastLines(preview({ work, more: 2, unread: undefined }))).toEqual([
      "**What is going to run**, on one L4 in us-central1, on spot, $0.50 an hour:",
      [
        "| | memory | time | cost |",
        "|---|---|---|---|",
        "| experiment `a` | 6 GiB of 24 GiB | 2 h | $1.00 |",
        "| experiment `b` | a command | at most 3 h | at most $1.50 |",
        "| experiment `big` | 30 GiB of 24 GiB: **does not fit** | – | – |",
        "| together | | | at most $2.50 |",
      ].join("\n"),
      "2 more experiments are pending.",
      "Memory by `tunestack-train estimate`; time assumed: 30% of 121 TFLOPS.",
    ]);
  });

  test("says where a timeout ends it before it is done", () => {
    const short = { ...row, timeoutSeconds: 1800, cost: 0.25 };
    expect(forecastLines(preview({ work: [short], more: 0, unread: undefined }))[1]).toContain(
      "| 2 h: **its timeout ends it after 30 min** | $0.25 |",
    );
  });

  test("leaves out of the sum what has no price, and guesses none", () => {
    const place = { ...L4, perHour: undefined };
    const free = { ...row, cost: undefined, costAtMost: undefined };
    const lines = forecastLines(preview({ work: [free, free], more: 0, unread: undefined }, NO_RUN, place));
    expect(lines.join("\n")).toContain("whose price is not known");
    expect(lines.join("\n")).not.toContain("together");
    expect(lines.join("\n")).not.toContain("$");
  });

  test("has of a run in progress what was measured, and no guess", () => {
    const live = { kind: "run", name: "mine", step: 100, maxSteps: 400, secondsLeft: 3 * 3600 } as const;
    expect(runCostLine(live, L4)).toEqual(["Run `mine` at its measured speed: $2.00 in all, $1.50 of it to go."]);
    expect(runCostLine({ ...live, secondsLeft: undefined }, L4)).toEqual([]);
    expect(runCostLine(live, { ...L4, perHour: undefined })).toEqual([]);
    const own = { ...row, kind: "run" as const, name: "mine" };
    expect(forecastLines(preview({ work: [own], more: 0, unread: undefined }, live))).toEqual([]);
    expect(forecastLines(preview({ work: [own], more: 0, unread: undefined }))[1]).toContain("run `mine`");
  });

  test("lets no name break out of its table", () => {
    const odd = { ...command, reason: "would be refused: a|b @you" };
    const [, table] = forecastLines(preview({ work: [odd], more: 0, unread: undefined }));
    expect(table).toContain("would be refused: a\\|b @\u200byou");
  });

  test("goes with an object for programs", () => {
    const found = preview({ work: [row], more: 0, unread: undefined });
    expect(asJson([found])).toMatchObject({
      stacks: [{ place: { perHour: 0.5 }, forecasts: { work: [{ name: "a", cost: 1 }] }, live_run_unseen: null }],
    });
  });
});

describe("the training package's own estimate", () => {
  beforeEach((context) => {
    const { status } = spawnSync("python3", ["-c", "import sys; sys.exit(sys.version_info < (3, 11))"]);
    if (status !== 0) context.skip("no python3 of version 3.11 or newer: with one, the real estimate is made here");
  });

  test("is asked by the names that it has for every kind of GPU", async () => {
    for (const key of Object.values(ESTIMATED_AS))
      expect(await estimateHere(["--preset=rehearsal", `--gpu=${key}`]), key).toMatchObject({
        device: key,
        verdict: "fits",
      });
  }, 60_000);

  test("tells what would be refused, and what is not known", async () => {
    expect(await estimateHere(["--preset=gemma-2b", "--gpu=l4", "--set=max_steps=-3"])).toEqual({
      reason: expect.stringMatching(/^would be refused: max_steps = '-3' is not between 0 and /),
    });
    expect(await estimateHere(["--model=some/body", "--gpu=l4"])).toEqual({
      reason: "not estimated: nothing is known of some/body before its config.json is here",
    });
  }, 60_000);

  test("does not read this person's settings", async () => {
    vi.stubEnv("TUNESTACK_SET_MAX_STEPS", "-3");
    expect(await estimateHere(["--preset=gemma-2b", "--gpu=l4"])).toMatchObject({ verdict: "fits" });
    vi.unstubAllEnvs();
  }, 60_000);
});
