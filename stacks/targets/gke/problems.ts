import type { Resolver } from "../../../k8s/layout.ts";
import { planProblems } from "../../../k8s/problems.ts";
import type { Plan } from "../../plan/types.ts";
import { type GkePool, type GkeSettings, onFilestore } from "../../settings/gke.ts";
import { cpuMachine, roomOn } from "../../settings/gke-machines.ts";
import { GPU_TYPES } from "../../settings/gpu-types.ts";
import type { InputsOf } from "../../settings/load.ts";
import type { Problem } from "../../settings/problems.ts";
import { formatBytes } from "../../settings/units.ts";
import { clusterNames, volumeBucket } from "./names.ts";
import { gpusSeen, machineOf, poolName, zonesOf } from "./pools.ts";

/** What a plan and its settings ask for that the cluster which they describe cannot do. */
export function gkeProblems(inputs: InputsOf<"gke">, plan: Plan, readFiles: Resolver["files"]): readonly Problem[] {
  const { gke } = inputs.settings;
  return [
    ...planProblems(plan, readFiles),
    ...gke.queue.pools.flatMap((pool, index) => poolProblems(pool, index, gke)),
    ...runProblems(inputs, plan),
    ...serviceProblems(plan, gke),
    ...sizeProblems(gke),
    ...nameProblems(inputs),
  ];
}

function poolProblems(pool: GkePool, index: number, { queue, zones }: GkeSettings): readonly Problem[] {
  const path = `gke.queue.pools[${index}]`;
  const names = queue.pools.map(poolName);
  if (names.indexOf(poolName(pool)) !== index)
    return [{ path, value: poolName(pool), reason: "stands there twice", remedy: "put their nodes together into one" }];
  if (pool.gpu === "none" || zonesOf(pool, zones).length > 0) return [];
  return [
    {
      path: `${path}.gpu`,
      value: pool.gpu,
      reason: `is known to be in none of gke.zones: ${zones.join(", ")}`,
      remedy: `choose zones that have it (${GPU_TYPES[pool.gpu].zones.join(", ")}), or name the pool's own in ${path}.zones`,
    },
  ];
}

/** Kueue would hold a run back for ever that no node has room for. */
function runProblems({ settings }: InputsOf<"gke">, plan: Plan): readonly Problem[] {
  const { run, queue } = settings.gke;
  if (plan.run === undefined) return [];
  const memoryBytes = settings.training.memory ?? run.memory;
  const wantsGpu = plan.run.workload.gpu !== "none";
  const fits = (pool: GkePool) => {
    const room = roomOn(machineOf(pool));
    const gpus = pool.sharing === undefined && pool.partition === undefined ? pool.gpusPerNode : gpusSeen(pool);
    return {
      cpus: room.cpus >= run.cpus,
      memory: room.memoryBytes >= memoryBytes,
      gpus: !wantsGpu || (pool.gpu !== "none" && gpus >= run.gpus),
      nodes: pool.nodes >= run.nodes,
    };
  };
  const rooms = queue.pools.map(fits);
  if (rooms.some(({ cpus, memory, gpus, nodes }) => cpus && memory && gpus && nodes)) return [];
  const most = (of: (pool: GkePool) => number) => Math.max(...queue.pools.map(of));
  const cpus = most((pool) => roomOn(machineOf(pool)).cpus);
  const bytes = most((pool) => roomOn(machineOf(pool)).memoryBytes);
  const gpus = most((pool) => (pool.gpu === "none" ? 0 : pool.gpusPerNode));
  const nodes = most((pool) => pool.nodes);
  const told: readonly (Problem | undefined)[] = [
    rooms.some((room) => room.cpus)
      ? undefined
      : tooMuch("gke.run.cpus", String(run.cpus), `${cpus} cores are left to a run on the largest node`),
    rooms.some((room) => room.memory)
      ? undefined
      : tooMuch(
          settings.training.memory === undefined ? "gke.run.memory" : "training.memory",
          formatBytes(memoryBytes),
          `${formatBytes(bytes)} are left to a run on the largest node`,
        ),
    rooms.some((room) => room.gpus)
      ? undefined
      : tooMuch("gke.run.gpus", String(run.gpus), `the largest node has ${gpus}`),
    rooms.some((room) => room.nodes)
      ? undefined
      : tooMuch("gke.run.nodes", String(run.nodes), `the largest pool has ${nodes}`),
  ];
  const problems = told.filter((one) => one !== undefined);
  if (problems.length > 0) return problems;
  return [
    {
      path: "gke.queue.pools",
      reason: "has no pool in which a node has all of what a run asks for: each falls short of something",
      remedy: "make one pool's nodes larger (gpusPerNode, machineType) or more (nodes), or let gke.run ask for less",
    },
  ];
}

function tooMuch(path: string, value: string, there: string): Problem {
  return {
    path,
    value,
    reason: `is more than there is: ${there}`,
    remedy: "ask for less, or choose larger or more nodes in gke.queue.pools",
  };
}

/** A service that no node has room for would wait for one for ever. */
function serviceProblems({ services }: Plan, { cpuPool }: GkeSettings): readonly Problem[] {
  const machine = cpuMachine(cpuPool.machineType);
  if (machine === undefined) return [];
  const { memoryBytes } = roomOn(machine);
  return services
    .filter((service) => (service.memoryBytes ?? 0) > memoryBytes)
    .map((service) => ({
      path: `services.${service.name}.memory`,
      value: formatBytes(service.memoryBytes ?? 0),
      reason: `is more than ${cpuPool.machineType} has left for a service, ${formatBytes(memoryBytes)}`,
      remedy: "choose less, or a larger machine in gke.cpuPool.machineType",
    }));
}

const GIB = 2 ** 30;

/**
 * What Filestore makes: https://cloud.google.com/filestore/docs/service-tiers (read 2026-11-30), and its driver
 * takes: https://github.com/kubernetes-sigs/gcp-filestore-csi-driver (pkg/csi_driver/controller.go, pkg/util/multishare_defs.go,
 * commit 2edb466); no difference. In what steps a share of `zonal` grows is not checked here: 256 GiB, from 10 TiB on 2.5 TiB.
 */
const SHARE_BYTES: Readonly<Record<GkeSettings["storage"]["filestore"], { least: number; most: number }>> = {
  basic: { least: 100 * GIB, most: 63.9 * 1024 * GIB },
  zonal: { least: 1024 * GIB, most: 100 * 1024 * GIB },
  enterprise: { least: 100 * GIB, most: 1024 * GIB },
};

function sizeProblems(settings: GkeSettings): readonly Problem[] {
  const { filestore, sizes } = settings.storage;
  const { least, most } = SHARE_BYTES[filestore];
  return onFilestore(settings)
    .filter((name) => sizes[name] < least || sizes[name] > most)
    .map((name) => ({
      path: `gke.storage.sizes.${name}`,
      value: formatBytes(sizes[name]),
      reason: `is not between ${formatBytes(least)} and ${formatBytes(most)}, which Filestore's tier ${filestore} makes`,
      remedy: "choose a size between these, or another tier in gke.storage.filestore",
    }));
}

/** https://cloud.google.com/storage/docs/buckets#naming */
const LONGEST_BUCKET = 63;

function nameProblems(inputs: InputsOf<"gke">): readonly Problem[] {
  const names = clusterNames(inputs);
  const buckets = [names.bucket, ...inputs.settings.gke.storage.inBuckets.map((volume) => volumeBucket(names, volume))];
  const longest = buckets.reduce((a, b) => (b.length > a.length ? b : a));
  if (longest.length <= LONGEST_BUCKET) return [];
  return [
    {
      path: "stack",
      value: inputs.stack,
      reason: `makes ${longest} the name of a bucket, of ${longest.length} characters, and Google takes ${LONGEST_BUCKET}`,
      remedy: `give the stack a name of at most ${inputs.stack.length - (longest.length - LONGEST_BUCKET)} characters`,
    },
  ];
}
