import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Benchmark, type Measure, measure, median } from "../../scripts/lib/bench.ts";
import { Containers } from "../../scripts/lib/containers.ts";
import { addedBytes, type LayerStep, readSteps } from "../../scripts/lib/image-layers.ts";
import { readRunStatus } from "../../scripts/lib/run-status.ts";
import type { Report } from "../../scripts/lib/steps.ts";
import { LABELS } from "../../stacks/targets/docker/render.ts";
import { cleanUp } from "./lib/cleanup.ts";
import { type Clone, makeClone, PREFIX, STACK } from "./lib/clone.ts";
import { withCudaPackages, withoutCacheMounts, withoutLayerOrder } from "./lib/dockerfiles.ts";

const ROUNDS = 3;
const CONTAINER = `${PREFIX}agent-qlora-training`;
const IMAGE = `tunestack/${PREFIX}training:${STACK}`;
const PACKAGE = join("images", "qlora", "src", "tunestack_train");
const MEGABYTE = 1e6;

export const benchmark: Benchmark = {
  summary:
    "from an edit of the package's Python to the first training step, against a full rebuild without layer order",
  run: compare,
};

/** Seconds from an edit. */
interface Loop {
  /** Until the container's process starts: all that is ours. */
  readonly started: number;
  /** Until the first training step, with Python's imports and the model. */
  readonly firstStep: number;
}

async function compare(report: Report): Promise<readonly Measure[]> {
  const containers = new Containers({});
  await cleanUp(containers.client);
  const clone = await makeClone({
    docker: { prefix: PREFIX },
    profiles: ["training"],
    training: { preset: "rehearsal" },
  });
  try {
    const dockerfile = join(clone.folder, "images", "qlora", "Dockerfile");
    const ordered = withCudaPackages(readFileSync(dockerfile, "utf8"));
    writeFileSync(dockerfile, ordered);
    report("first build");
    await editAndTrain(clone, containers, "warm");
    const before = await stepsOf(containers);
    const ours: Loop[] = [];
    for (let round = 1; round <= ROUNDS; round += 1) {
      report(`edit ${round} of ${ROUNDS}`);
      ours.push(await editAndTrain(clone, containers, `edit-${round}`));
    }
    const added = addedBytes(before, await stepsOf(containers));
    const unordered = withoutLayerOrder(ordered);
    report("rebuild without layer order, from packages that were downloaded before");
    writeFileSync(dockerfile, unordered);
    const cached = await editAndTrain(clone, containers, "rebuild-cached");
    report("full rebuild without layer order");
    writeFileSync(dockerfile, withoutCacheMounts(unordered));
    const full = await editAndTrain(clone, containers, "rebuild");
    return figures(ours, cached, full, added / ROUNDS);
  } finally {
    await cleanUp(containers.client);
    clone.remove();
  }
}

function figures(ours: readonly Loop[], cached: Loop, full: Loop, addedEach: number): readonly Measure[] {
  const started = median(ours.map((loop) => loop.started));
  const firstStep = median(ours.map((loop) => loop.firstStep));
  return [
    measure("edit to running container", started, "s", "< 10"),
    measure("edit to first training step", firstStep, "s"),
    measure("full rebuild to running container", full.started, "s"),
    measure("full rebuild to first training step", full.firstStep, "s"),
    measure("rebuild from downloaded packages to running container", cached.started, "s"),
    measure("full rebuild / edit, to running container", full.started / started, "×", ">= 20"),
    measure("full rebuild / edit, to first training step", full.firstStep / firstStep, "×", ">= 20"),
    measure("rebuild from downloaded packages / edit, to running container", cached.started / started, "×"),
    measure("layers that an edit adds", addedEach / MEGABYTE, "MB", "< 1"),
  ];
}

async function stepsOf(containers: Containers): Promise<readonly LayerStep[]> {
  const steps = await readSteps(containers.client, IMAGE);
  if (steps === undefined) throw new Error(`${IMAGE} was not built`);
  return steps;
}

/** Edits the package, types the command that trains, and watches the engine meanwhile. */
async function editAndTrain(clone: Clone, containers: Containers, run: string): Promise<Loop> {
  const superseded = await imageId(containers);
  appendFileSync(join(clone.folder, PACKAGE, "units.py"), `\n# ${run}\n`);
  const edited = Date.now();
  const command = clone.npmRun("train-custom", "--preset", "rehearsal", "--name", run, "--set", "max_steps=1");
  let ended = false;
  const end = () => {
    ended = true;
  };
  command.then(end, end);
  const [, moments] = await Promise.all([command, watchRun(containers, run, () => ended)]);
  // It has lost its name to the new one, and holds gigabytes.
  if (superseded !== undefined) await containers.client.getImage(superseded).remove();
  return { started: (moments.started - edited) / 1000, firstStep: (moments.firstStep - edited) / 1000 };
}

async function imageId(containers: Containers): Promise<string | undefined> {
  const [image] = await containers.client.listImages({ filters: { reference: [IMAGE] } });
  return image?.Id;
}

async function watchRun(
  containers: Containers,
  run: string,
  hasEnded: () => boolean,
): Promise<{ started: number; firstStep: number }> {
  for (;;) {
    const lastLook = hasEnded();
    const started = await startOf(containers, run);
    if (started !== undefined) {
      const status = await readRunStatus(containers, CONTAINER, run).catch(() => undefined);
      if (status !== undefined && status.step >= 1) return { started, firstStep: Date.now() };
    }
    if (lastLook) throw new Error(`the run ${run} ended without a training step`);
    await sleep(200);
  }
}

async function startOf(containers: Containers, run: string): Promise<number | undefined> {
  const info = await containers.client
    .getContainer(CONTAINER)
    .inspect()
    .catch(() => undefined);
  if (info?.Config.Labels[LABELS.run] !== run) return undefined;
  const started = Date.parse(info.State.StartedAt);
  return started > 0 ? started : undefined;
}
