import type { Plan } from "../stacks/plan/types.ts";
import type { Problem } from "../stacks/settings/problems.ts";
import { formatBytes, formatDuration } from "../stacks/settings/units.ts";
import { isSchedulable } from "./cron.ts";
import type { Resolver } from "./layout.ts";

/** What a config map takes, less what its own names take: https://kubernetes.io/docs/concepts/configuration/configmap. */
const LARGEST_INPUT_BYTES = 1_000_000;

/** What a plan asks for that no cluster can do. */
export function planProblems(plan: Plan, readFiles: Resolver["files"]): readonly Problem[] {
  return [...inputProblems(plan, readFiles), ...intervalProblems(plan)];
}

function inputProblems({ run }: Plan, readFiles: Resolver["files"]): readonly Problem[] {
  return (run?.workload.mounts ?? []).flatMap((mount): readonly Problem[] => {
    if (mount.kind !== "host") return [];
    const bytes = [...readFiles(mount.source).values()].reduce((sum, content) => sum + content.byteLength, 0);
    if (bytes <= LARGEST_INPUT_BYTES) return [];
    return [
      {
        path: mount.path.startsWith("/model") ? "training.model" : "training.data",
        value: mount.source,
        reason: `is ${formatBytes(bytes)}, and what goes into a cluster from this machine can be 1 MB at most`,
        remedy: "put it on the Hugging Face hub and name it by its id (data as hub:ID)",
      },
    ];
  });
}

function intervalProblems({ services }: Plan): readonly Problem[] {
  return services.flatMap(({ scheduled = [] }) =>
    scheduled
      .filter(({ intervalSeconds }) => !isSchedulable(intervalSeconds))
      .map(({ name, intervalSeconds }) => ({
        path: name === "drill" ? "backup.drillInterval" : "backup.interval",
        value: formatDuration(intervalSeconds),
        reason: "is no interval by which a cluster starts jobs",
        remedy: "choose minutes that divide an hour, hours that divide a day, 24h or 7d: 15m, 1h, 6h, 24h",
      })),
  );
}
