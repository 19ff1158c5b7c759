import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { defineConfig } from "vitest/config";

const MINUTE = 60_000;

const FOLDER = join(import.meta.dirname, "test");

/** Quick tests that replace modules, and so cannot take those that another file has loaded. */
const REPLACING = readdirSync(FOLDER, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".test.ts") && readFileSync(join(FOLDER, file), "utf8").includes("vi.mock("))
  .map((file) => `test/${file}`);

const SLOW = ["test/**/*.engine.test.ts", "test/**/*.cluster.test.ts"];

// On a busy machine the start of a program in a hook takes long.
const QUICK = {
  setupFiles: ["test/lib/no-network.ts"],
  testTimeout: 20_000,
  hookTimeout: MINUTE,
  // vitest leaves one core free, which of two leaves one to tests that wait as much as they compute.
  maxWorkers: Math.max(2, availableParallelism() - 1),
};

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          ...QUICK,
          name: "quick",
          include: ["test/**/*.test.ts"],
          exclude: [...SLOW, ...REPLACING],
          // Loading Pulumi's SDK anew for each file took half of the processor time.
          isolate: false,
        },
      },
      {
        test: { ...QUICK, name: "quick-replacing", include: REPLACING },
      },
      {
        test: {
          name: "engine",
          include: ["test/**/*.engine.test.ts"],
          // One stack at a time: they share an engine, its ports and two cores.
          fileParallelism: false,
          testTimeout: 20 * MINUTE,
          hookTimeout: 20 * MINUTE,
        },
      },
      {
        test: {
          name: "cluster",
          include: ["test/**/*.cluster.test.ts"],
          globalSetup: ["test/cluster/lib/global-setup.ts"],
          // Files wait for controllers more than they compute, and each has queues and nodes of its own.
          maxWorkers: 4,
          testTimeout: 6 * MINUTE,
          hookTimeout: 6 * MINUTE,
        },
      },
    ],
  },
});
