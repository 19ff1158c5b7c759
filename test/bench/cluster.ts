import { ensureControlPlane } from "../../offline/control-plane.ts";
import type { Benchmark, Measure, Sizes } from "../../scripts/lib/bench.ts";
import { CACHE_DIR } from "../../scripts/lib/project.ts";
import type { Report } from "../../scripts/lib/steps.ts";
import { Api } from "../cluster/lib/api.ts";
import { startCluster } from "../cluster/lib/control-plane.ts";
import { measureAdmissions } from "./lib/admissions.ts";
import { measureLoss } from "./lib/losing-nodes.ts";
import { measureRendering } from "./lib/rendering.ts";
import { measureSweep } from "./lib/sweep.ts";

export const benchmark: Benchmark = {
  summary: "runs in a cluster: rendered, submitted as a sweep, admitted by Kueue, and ended once though nodes are lost",
  sizes: { nodes: 1000, runs: 5000, admissions: 500, rendered: 10_000, sweep: 1000 },
  run: measureAll,
};

const INTERRUPTIONS = [
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const;

async function measureAll(report: Report, sizes: Sizes): Promise<readonly Measure[]> {
  // At the exit the programs are ended; a signal alone would leave them to the next control plane.
  for (const [signal, code] of INTERRUPTIONS) process.once(signal, () => process.exit(code));
  const { nodes = 0, runs = 0, admissions = 0, rendered = 0, sweep = 0 } = sizes;
  report(`rendering ${rendered} runs`);
  const pure = measureRendering(rendered);
  const submitted = await measureSweep(sweep, report);
  const admitted = await inCluster(report, async (api) => await measureAdmissions(api, admissions, report));
  // A cluster of its own: what the other has left would be counted along.
  const ended = await inCluster(report, async (api) => await measureLoss(api, { nodes, runs }, report));
  return [...pure, ...submitted, ...admitted, ...ended];
}

async function inCluster(report: Report, body: (api: Api) => Promise<readonly Measure[]>): Promise<readonly Measure[]> {
  const built = await ensureControlPlane(CACHE_DIR, report);
  report("starting a control plane");
  const cluster = await startCluster(built);
  const api = new Api(cluster.access);
  try {
    return await body(api);
  } finally {
    api.close();
    await cluster.stop();
  }
}
