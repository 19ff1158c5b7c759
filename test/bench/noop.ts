import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { type Benchmark, type Measure, measure, median } from "../../scripts/lib/bench.ts";
import { Containers } from "../../scripts/lib/containers.ts";
import type { Report } from "../../scripts/lib/steps.ts";
import { freePorts } from "../lib/ports.ts";
import { cleanUp } from "./lib/cleanup.ts";
import { type Clone, makeClone, PREFIX, STACK, seconds } from "./lib/clone.ts";
import { makeEmptyProgram } from "./lib/empty-program.ts";

const ROUNDS = 5;

export const benchmark: Benchmark = {
  summary: "pulumi preview and up of an unchanged stack, against those of an empty program",
  run: compare,
};

async function compare(report: Report): Promise<readonly Measure[]> {
  const containers = new Containers({});
  await cleanUp(containers.client);
  const [jupyter, tensorboard, wandb, monitor] = await freePorts(4);
  const clone = await makeClone({
    docker: { prefix: PREFIX },
    training: { preset: "rehearsal", run: "bench", set: { max_steps: 1 } },
    services: {
      jupyter: { port: jupyter },
      tensorboard: { port: tensorboard },
      "wandb-local": { port: wandb },
      "gpu-monitor": { port: monitor },
    },
  });
  try {
    report("bringing a stack up");
    await clone.npmRun("train-monitor");
    const container = `${PREFIX}agent-qlora-training`;
    while ((await containers.state(container)).running) await sleep(500);
    return await measureUnchanged(clone, report);
  } finally {
    await cleanUp(containers.client);
    clone.remove();
  }
}

async function measureUnchanged(clone: Clone, report: Report): Promise<readonly Measure[]> {
  const empty = makeEmptyProgram();
  try {
    const preview = ["preview", "--stack", STACK, "--non-interactive"];
    const ours: number[] = [];
    const theirs: number[] = [];
    await clone.pulumi(["stack", "init", STACK], empty);
    for (let round = 0; round < ROUNDS; round += 1) {
      report(`preview ${round + 1} of ${ROUNDS}`);
      ours.push(await seconds(() => clone.pulumi(preview)));
      theirs.push(await seconds(() => clone.pulumi(preview, empty)));
    }
    report("up");
    const ups: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      ups.push(await seconds(() => clone.pulumi(["up", "--yes", "--stack", STACK, "--non-interactive"])));
    }
    const changes = await lastChanges(clone);
    const ratio = median(ours) / median(theirs);
    return [
      measure("preview of the unchanged stack", median(ours), "s"),
      measure("preview of an empty program", median(theirs), "s"),
      measure("difference", median(ours) - median(theirs), "s", "<= 1.5"),
      measure("ratio", ratio, "×"),
      measure("up of the unchanged stack", median(ups), "s", "<= 10"),
      measure("resources that this up created, changed or replaced", changes, "", "== 0"),
    ];
  } finally {
    rmSync(empty, { recursive: true, force: true });
  }
}

const historySchema = z.array(z.object({ resourceChanges: z.record(z.string(), z.number()).optional() })).min(1);

/** How many resources the last `up` did not leave as they were. */
async function lastChanges(clone: Clone): Promise<number> {
  const text = await clone.pulumi(["stack", "history", "--stack", STACK, "--json", "--page-size", "1"]);
  const changes = historySchema.parse(JSON.parse(text))[0]?.resourceChanges ?? {};
  return Object.entries(changes).reduce((sum, [kind, count]) => (kind === "same" ? sum : sum + count), 0);
}
