import { ClusterError, readKubeconfig } from "../../../k8s/access.ts";
import { lookAtCluster } from "../../../k8s/look.ts";
import { askedOf, examineCluster, type Finding } from "../../../k8s/needs.ts";
import { makePlan } from "../../../stacks/plan/plan.ts";
import type { Plan } from "../../../stacks/plan/types.ts";
import type { InputsOf } from "../../../stacks/settings/load.ts";
import { SettingsError } from "../../../stacks/settings/problems.ts";
import { clusterLayout } from "../../../stacks/targets/kubernetes/layout.ts";
import { ClusterClient } from "../cluster/client.ts";
import { readService } from "../cluster/services.ts";
import { type Check, fail, fromProblem, ok, warn } from "./check.ts";
import { serviceCheck } from "./stack-checks.ts";

/** Everything that a stack needs of its cluster, and how its services are where it is up. */
export async function clusterChecks(inputs: InputsOf<"kubernetes">): Promise<readonly Check[]> {
  try {
    const layout = clusterLayout(inputs);
    const config = readKubeconfig(inputs.settings.kubernetes);
    const facts = await lookAtCluster(config, askedOf(layout));
    const plan = makePlan(inputs);
    const client = new ClusterClient(config, inputs.stack, layout.namespace);
    const up = facts.claims.length > 0;
    const services = up
      ? await Promise.all(plan.services.map(async ({ name }) => serviceCheck(name, await readService(client, name))))
      : [];
    // A run in progress is wrong only for what would replace it.
    return [...examineCluster(replacing(plan), layout, facts).map(findingCheck), ...services];
  } catch (error) {
    if (error instanceof ClusterError) return [fromProblem(error.problem)];
    if (error instanceof SettingsError) return error.problems.map((problem) => fromProblem(problem));
    throw error;
  }
}

function replacing(plan: Plan): Plan {
  return plan.run === undefined ? plan : { ...plan, run: { ...plan.run, replaceRunning: true } };
}

function findingCheck(finding: Finding): Check {
  if (finding.verdict === "well") return ok(finding.subject, finding.said);
  const { path, value, reason, remedy } = finding.problem;
  const said = `${path}${value === undefined ? "" : ` = ${value}`} ${reason}`;
  return finding.verdict === "wrong" ? fail(finding.subject, said, remedy) : warn(finding.subject, said, remedy);
}
