import { isSchedulable } from "../../../k8s/cron.ts";
import type { Resolver } from "../../../k8s/layout.ts";
import type { Plan } from "../../plan/types.ts";
import type { InputsOf } from "../../settings/load.ts";
import type { Problem } from "../../settings/problems.ts";
import { formatBytes, formatDuration } from "../../settings/units.ts";
import { poolLabels } from "./layout.ts";

/** What a config map takes, less what its own names take: https://kubernetes.io/docs/concepts/configuration/configmap. */
const LARGEST_INPUT_BYTES = 1_000_000;

/** What a plan asks for that a cluster cannot do. */
export function clusterProblems(
  { settings }: InputsOf<"kubernetes">,
  plan: Plan,
  readFiles: Resolver["files"],
): readonly Problem[] {
  return [...inputProblems(plan, readFiles), ...intervalProblems(plan), ...poolProblems(settings.kubernetes)];
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

/** Each pool is a flavor of its own: by its name, and by the labels of its nodes. */
function poolProblems({ queue }: InputsOf<"kubernetes">["settings"]["kubernetes"]): readonly Problem[] {
  const kinds = queue.pools.map(({ gpu, provisioning }) => `${gpu}, ${provisioning}`);
  const labels = queue.pools.map((pool) => JSON.stringify(Object.entries(poolLabels(pool)).sort()));
  return queue.pools.flatMap((_pool, index): readonly Problem[] => {
    const path = `kubernetes.queue.pools[${index}]`;
    if (kinds.indexOf(kinds[index] ?? "") !== index)
      return [
        { path, value: kinds[index], reason: "stands there twice", remedy: "put their quotas together into one" },
      ];
    const same = labels.indexOf(labels[index] ?? "");
    if (same === index) return [];
    return [
      {
        path: `${path}.nodeLabels`,
        value: labels[index],
        reason: `are the labels of kubernetes.queue.pools[${same}] too, so that nobody can tell their nodes apart`,
        remedy: "set nodeLabels to labels that the nodes of this pool alone have",
      },
    ];
  });
}
