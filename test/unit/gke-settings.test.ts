import { readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { makePlan } from "../../stacks/plan/plan.ts";
import { cpuMachine, GPU_NODES, gpuNodeFacts, roomOn } from "../../stacks/settings/gke-machines.ts";
import { GPU_TYPE_NAMES, GPU_TYPES } from "../../stacks/settings/gpu-types.ts";
import type { RawSettings } from "../../stacks/settings/layers.ts";
import { clusterNames } from "../../stacks/targets/gke/names.ts";
import { poolName, quotaOf } from "../../stacks/targets/gke/pools.ts";
import { gkeProblems } from "../../stacks/targets/gke/problems.ts";
import { CONTROLLER_VERSIONS, CONTROLLERS, renderController } from "../../stacks/targets/gke/render-controllers.ts";
import { accountId } from "../../stacks/targets/google-cloud/names.ts";
import { gkeInputs, type InputChanges, problemsOf } from "../lib/inputs.ts";

const pools = (...given: readonly RawSettings[]): RawSettings => ({ queue: { pools: given } });

const REJECTED: readonly (readonly [string, RawSettings, string, string])[] = [
  ["a zone of another region", { zones: ["europe-west4-a"] }, "zones.0", "is no zone of the region us-central1"],
  [
    "a zone that the cluster has not",
    pools({ gpu: "L4", zones: ["us-central1-f"] }),
    "queue.pools.0.zones.0",
    "is no zone of the cluster",
  ],
  ["a time of no day", { maintenance: "25:00" }, "maintenance", "is no time of the day: write it as 03:00"],
  [
    "a machine for services that nobody knows",
    { cpuPool: { machineType: "e2-standard-5" } },
    "cpuPool.machineType",
    "is no machine type that is known here",
  ],
  [
    "a machine of a family that ends before it",
    { cpuPool: { machineType: "e2-highmem-32" } },
    "cpuPool.machineType",
    "is no machine type that is known here",
  ],
  [
    "fewer services' nodes at most than at least",
    { cpuPool: { minimum: 4, maximum: 3 } },
    "cpuPool.maximum",
    "is less than gke.cpuPool.minimum, 4",
  ],
  [
    "secrets from the host on a machine that cannot keep them",
    { cpuPool: { confidential: true } },
    "cpuPool.confidential",
    "is not to be had with e2-standard-8",
  ],
  [
    "a machine for runs that nobody knows",
    pools({ gpu: "none", machineType: "x9" }),
    "queue.pools.0.machineType",
    "is no machine type that is known here",
  ],
  [
    "three L4 a node",
    pools({ gpu: "L4", gpusPerNode: 3 }),
    "queue.pools.0.gpusPerNode",
    "is no number of L4 that a machine has",
  ],
  ["one H100 at the standard price", pools({ gpu: "H100" }), "queue.pools.0.provisioning", "cannot be had for 1 H100"],
  [
    "a part of an L4",
    pools({ gpu: "L4", partition: "1g.5gb" }),
    "queue.pools.0.partition",
    "cannot be had: L4 cannot be cut",
  ],
  [
    "a part of another GPU",
    pools({ gpu: "A100-40", partition: "1g.10gb" }),
    "queue.pools.0.partition",
    "is no part of A100-40",
  ],
  [
    "MPS on a part",
    pools({ gpu: "A100-40", partition: "3g.20gb", sharing: { clients: 2, strategy: "mps" } }),
    "queue.pools.0.sharing.strategy",
    "is not to be had for parts of a GPU",
  ],
  [
    "two shared GPUs for a run",
    { ...pools({ gpu: "L4", gpusPerNode: 2, sharing: { clients: 2 } }), run: { gpus: 2 } },
    "queue.pools.0.sharing",
    "gives a run one part of a GPU, and gke.run.gpus asks for 2",
  ],
  [
    "T4 near to each other",
    pools({ gpu: "T4", placement: "compact" }),
    "queue.pools.0.placement",
    "is not to be had for T4",
  ],
  [
    "e2 machines near to each other",
    pools({ gpu: "none", machineType: "e2-standard-8", placement: "compact" }),
    "queue.pools.0.placement",
    "is not to be had with e2 machines",
  ],
  [
    "a confidential L4",
    pools({ gpu: "L4", confidential: true }),
    "queue.pools.0.confidential",
    "is not to be had for 1 L4",
  ],
  [
    "a shared GPU where there is none",
    pools({ gpu: "none", sharing: { clients: 2 } }),
    "queue.pools.0.sharing",
    "is about a GPU, and these nodes have none",
  ],
  [
    "checkpoints in a bucket",
    { storage: { inBuckets: ["training_checkpoints"] } },
    "storage.inBuckets.0",
    "is not one of the values allowed",
  ],
];

describe("the block gke", () => {
  test.each(REJECTED)("%s is told", (_title, gke, path, reason) => {
    const told = problemsOf(() => gkeInputs({ gke })).map(({ path, reason }) => ({ path, reason }));
    expect(told).toEqual([{ path: `gke.${path} (test)`, reason }]);
  });

  test("with the project alone is a regional cluster with L4 on spot, then at the standard price", () => {
    const { location, endpoint, queue } = gkeInputs().settings.gke;
    expect({ location, endpoint }).toEqual({ location: "regional", endpoint: "dns" });
    expect(queue.pools.map(poolName)).toEqual(["l4-spot", "l4-standard"]);
  });
});

function problems(gke: RawSettings, changes: InputChanges = {}) {
  const inputs = gkeInputs({ gke, ...changes });
  const found = gkeProblems(inputs, makePlan(inputs), () => new Map());
  expect(found.every(({ remedy }) => remedy !== "")).toBe(true);
  return found.map(({ path, reason }) => ({ path, reason }));
}

describe("what a cluster cannot do", () => {
  test("is nothing by default", () => {
    expect(problems({})).toEqual([]);
  });

  test.each([
    ["two pools of a kind", pools({ gpu: "L4" }, { gpu: "L4", nodes: 3 }), "gke.queue.pools[1]", "stands there twice"],
    [
      "zones without the GPU",
      { zones: ["us-central1-b"], ...pools({ gpu: "A100-80", zones: undefined }) },
      "gke.queue.pools[0].gpu",
      "is known to be in none of gke.zones: us-central1-b",
    ],
    [
      "more cores than a node has",
      { run: { cpus: 8 } },
      "gke.run.cpus",
      "is more than there is: 6 cores are left to a run on the largest node",
    ],
    [
      "more memory than a node has",
      { run: { memory: "31GiB" } },
      "gke.run.memory",
      "is more than there is: 26 GiB are left to a run on the largest node",
    ],
    [
      "more GPUs than a node has",
      { run: { gpus: 2 } },
      "gke.run.gpus",
      "is more than there is: the largest node has 1",
    ],
    [
      "more nodes than a pool has",
      { run: { nodes: 3 } },
      "gke.run.nodes",
      "is more than there is: the largest pool has 2",
    ],
    [
      "pools that each fall short of something",
      { run: { cpus: 20, nodes: 2 }, ...pools({ gpu: "L4", gpusPerNode: 2 }, { gpu: "L4", nodes: 2 }) },
      "gke.queue.pools",
      "has no pool in which a node has all of what a run asks for: each falls short of something",
    ],
    [
      "a volume that is too small for Filestore",
      { storage: { sizes: { training_logs: "20GiB" } } },
      "gke.storage.sizes.training_logs",
      "is not between 100 GiB and 63.9 TiB, which Filestore's tier basic makes",
    ],
    [
      "a service without a node",
      { cpuPool: { machineType: "e2-standard-4" } },
      "services.jupyter.memory",
      "is more than e2-standard-4 has left for a service, 11 GiB",
    ],
  ])("%s is told", (_title, gke, path, reason) => {
    expect(problems(gke)).toEqual([{ path, reason }]);
  });

  test("a stack's name that makes a bucket's too long is told", () => {
    const found = problems({}, { stack: "a-name-that-is-far-too-long-for-a-bucket-of-google" });
    expect(found.map(({ path }) => path)).toEqual(["stack"]);
  });

  test("a preset that a part of a GPU, or a shared one, is too small for is told", () => {
    const plan = (pool: RawSettings) =>
      makePlan(gkeInputs({ gke: pools(pool), settings: { training: { preset: "gemma-9b" } }, secrets: ["hf-token"] }));
    expect(problemsOf(() => plan({ gpu: "A100-40", partition: "3g.20gb" })).map(({ reason }) => reason)).toEqual([
      "has 20 GiB of memory, and the preset gemma-9b needs 22",
    ]);
    expect(problemsOf(() => plan({ gpu: "A100-40", sharing: { clients: 2 } })).map(({ path }) => path)).toEqual([
      "gke.queue.pools[0].gpu",
    ]);
    expect(plan({ gpu: "A100-40" }).run?.preset).toBe("gemma-9b");
  });
});

describe("what fits on nodes", () => {
  test("is less than the machine, more on a larger one, and all of it is told in whole GiB and cores", () => {
    const machines = GPU_TYPE_NAMES.flatMap((gpu) => gpuNodeFacts(gpu).machines);
    for (const machine of [
      ...machines,
      ...["e2-standard-2", "n2d-highmem-96"].flatMap((name) => cpuMachine(name) ?? []),
    ]) {
      const { cpus, memoryBytes } = roomOn(machine);
      expect(cpus, machine.machineType).toBeLessThan(machine.cpus);
      expect(memoryBytes, machine.machineType).toBeLessThan(machine.memoryGiB * 2 ** 30 * 0.99);
      expect(memoryBytes % 2 ** 30, machine.machineType).toBe(0);
    }
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 400 }), fc.integer({ min: 8, max: 4000 }), (cpus, memoryGiB) => {
        const one = roomOn({ machineType: "x", cpus, memoryGiB });
        const two = roomOn({ machineType: "x", cpus: cpus + 1, memoryGiB: memoryGiB + 1 });
        return two.cpus >= one.cpus && two.memoryBytes >= one.memoryBytes && one.memoryBytes >= 0;
      }),
    );
  });

  test("of a pool is for each of its nodes, and GPUs count as pods see them", () => {
    const pool = (more: RawSettings) => {
      const [only] = gkeInputs({ gke: pools({ gpu: "A100-40", ...more }) }).settings.gke.queue.pools;
      if (only === undefined) throw new Error("there is a pool");
      return quotaOf(only);
    };
    expect(pool({ nodes: 3, gpusPerNode: 4 })).toMatchObject({ gpus: 12, cpus: 3 * 46 });
    expect(pool({ nodes: 2, partition: "1g.5gb" }).gpus).toBe(14);
    expect(pool({ nodes: 2, partition: "4g.20gb" }).gpus).toBe(2);
    expect(pool({ partition: "2g.10gb", sharing: { clients: 2 } }).gpus).toBe(6);
  });

  test("no parts of a GPU have more memory together than it has", () => {
    for (const gpu of GPU_TYPE_NAMES)
      for (const [size, { count, memoryGiB }] of Object.entries(gpuNodeFacts(gpu).partitions)) {
        expect(count * memoryGiB, `${gpu} ${size}`).toBeLessThanOrEqual(GPU_TYPES[gpu].memoryGiB);
        expect(size, gpu).toMatch(new RegExp(`^[12347]g\\.${memoryGiB}gb$`));
      }
  });

  test("the largest machines of a family are known, and larger ones are not", () => {
    const known = ["e2-standard-32", "e2-highmem-16", "e2-highcpu-32", "n2-standard-80", "n2d-highmem-96"];
    expect(known.flatMap((name) => cpuMachine(name)?.memoryGiB ?? [])).toEqual([128, 128, 32, 320, 768]);
    expect(["e2-highmem-32", "e2-standard-64", "n2-standard-6"].flatMap((name) => cpuMachine(name) ?? [])).toEqual([]);
  });

  test("the machine with one GPU is the same as on a VM", () => {
    for (const gpu of GPU_TYPE_NAMES)
      expect(GPU_NODES[gpu].machines[0].machineType, gpu).toBe(GPU_TYPES[gpu].machineType);
  });
});

describe("names", () => {
  test("of accounts are such that Google takes them, each another", () => {
    const stack = fc.stringMatching(/^[a-z][a-z0-9-]{0,40}[a-z0-9]$/);
    fc.assert(
      fc.property(stack, stack, (one, two) => {
        const id = (name: string, part: string) => accountId({ prefix: `tunestack-${name}` }, part);
        const ids = [id(one, "backup"), id(one, "runner"), id(two, "backup")];
        const valid = ids.every((name) => /^[a-z]([-a-z0-9]{4,28}[a-z0-9])$/.test(name));
        return valid && new Set(ids).size === (one === two ? 2 : 3);
      }),
    );
  });

  test("of node pools fit into the 40 characters that Google takes", () => {
    const longest = pools({
      gpu: "A100-80",
      gpusPerNode: 8,
      partition: "1g.10gb",
      sharing: { clients: 2 },
      placement: "compact",
    });
    for (const pool of gkeInputs({ gke: longest }).settings.gke.queue.pools)
      expect(poolName(pool)).toMatch(/^[a-z][a-z0-9-]{0,38}[a-z0-9]$/);
  });

  test("of a cluster are those by which gcloud finds it", () => {
    expect(clusterNames(gkeInputs({ gke: { location: "zonal" } }))).toMatchObject({
      prefix: "tunestack-prod",
      location: "us-central1-a",
      workloadPool: "team-ml.svc.id.goog",
    });
  });
});

describe("JobSet and Kueue", () => {
  test("are of the versions on which the cluster tests run", () => {
    const modules = readFileSync(join(PROJECT_DIR, "offline", "go", "control-plane", "go.mod"), "utf8");
    for (const controller of CONTROLLERS) {
      const [, version] = new RegExp(`sigs\\.k8s\\.io/${controller} v(\\S+)`).exec(modules) ?? [];
      expect(CONTROLLER_VERSIONS[controller]).toBe(version);
    }
  });

  test("come from a mirror, charts and images, where one is set", () => {
    const text = JSON.stringify(
      CONTROLLERS.map((one) => renderController(one, { controllerRegistry: "mirror.lab:5000/k8s" })),
    );
    expect(text).not.toContain("registry.k8s.io");
    expect(text.split("mirror.lab:5000/k8s/").length - 1).toBe(4);
  });
});
