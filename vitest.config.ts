import { defineConfig } from "vitest/config";

const MINUTE = 60_000;

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "quick",
          include: ["test/**/*.test.ts"],
          exclude: ["test/**/*.engine.test.ts", "test/**/*.cluster.test.ts"],
          setupFiles: ["test/lib/no-network.ts"],
          testTimeout: 20_000,
        },
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
