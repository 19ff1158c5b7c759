import type { Resolver } from "../../../k8s/layout.ts";
import { planProblems } from "../../../k8s/problems.ts";
import type { Plan } from "../../plan/types.ts";
import type { InputsOf } from "../../settings/load.ts";
import type { Problem } from "../../settings/problems.ts";
import { poolLabels } from "./layout.ts";

/** What a plan asks for that a cluster cannot do. */
export function clusterProblems(
  { settings }: InputsOf<"kubernetes">,
  plan: Plan,
  readFiles: Resolver["files"],
): readonly Problem[] {
  return [...planProblems(plan, readFiles), ...poolProblems(settings.kubernetes)];
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
