import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { renderJobSet } from "../../../k8s/render-run.ts";
import { type Measure, measure } from "../../../scripts/lib/bench.ts";
import { makePlan } from "../../../stacks/plan/plan.ts";
import { clusterLayout } from "../../../stacks/targets/kubernetes/layout.ts";
import { kubernetesInputs } from "../../lib/inputs.ts";
import { RESOLVED } from "../../lib/kubernetes.ts";

const MIB = 2 ** 20;

/** A run from its settings to the text that the API server gets. */
function renderRun(name: string): string {
  const inputs = kubernetesInputs({
    settings: { training: { run: name, preset: "rehearsal", set: { learning_rate: 1e-4 } } },
    kubernetes: { queue: { pools: [{ gpu: "L4" }] } },
  });
  const { run } = makePlan(inputs);
  if (run === undefined) throw new Error("the stack has no run");
  return JSON.stringify(renderJobSet(run, clusterLayout(inputs), RESOLVED));
}

interface Cost {
  readonly seconds: number;
  /** What it computed; on a busy machine less than what it took. */
  readonly processorSeconds: number;
  readonly mebibytes: number;
}

/** Renders runs and keeps all of them. */
function renderAll(runs: number): Cost {
  const before = heapUsed();
  const started = performance.now();
  const computed = process.cpuUsage();
  const texts = Array.from({ length: runs }, (_, index) => renderRun(`run-${index}`));
  const { user, system } = process.cpuUsage(computed);
  const seconds = (performance.now() - started) / 1000;
  const mebibytes = (heapUsed() - before) / MIB;
  if (texts.length !== runs) throw new Error("not every run was rendered");
  return { seconds, processorSeconds: (user + system) / 1e6, mebibytes };
}

/** What is in use after everything else has been thrown away. */
function heapUsed(): number {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  if (typeof collect !== "function") throw new Error("this Node cannot be asked to collect garbage");
  collect();
  return process.memoryUsage().heapUsed;
}

/** Time and memory of rendering, and whether the last half of the runs takes as much as the first. */
export function measureRendering(runs: number): readonly Measure[] {
  renderAll(Math.min(runs, 200));
  const half = renderAll(Math.ceil(runs / 2));
  const all = renderAll(runs);
  const perRun = (cost: Cost, of: keyof Cost, count: number) => cost[of] / count;
  const growth = (of: keyof Cost) => perRun(all, of, runs) / perRun(half, of, Math.ceil(runs / 2));
  return [
    measure(`rendering ${runs} runs, from settings to text, processor time`, all.processorSeconds, "s", "< 10"),
    measure("the same by the clock", all.seconds, "s"),
    measure("memory of what is rendered", all.mebibytes, "MiB"),
    measure("memory of a run, all / half of them", growth("mebibytes"), "×", "<= 1.1"),
    measure("processor time of a run, all / half of them", growth("processorSeconds"), "×"),
  ];
}
