import { hasTarget, type StackInputs } from "../../../stacks/settings/load.ts";
import { clusterNames, volumeBucket } from "../../../stacks/targets/gke/names.ts";
import { type UserError, usageError } from "../errors.ts";

/** What somebody else's cloud holds goes by Pulumi, and what Pulumi leaves by hand: the refusal names each command. */
export function notByThisCommand(inputs: StackInputs): UserError {
  const { stack, settings } = inputs;
  return usageError({
    path: "--stack",
    value: stack,
    reason: `is of the target ${settings.target}, and this command takes nothing away that is in Google Cloud`,
    remedy: gkeCommands(inputs) ?? vmCommands(stack),
  });
}

function vmCommands(stack: string): string {
  return `npx pulumi destroy --stack ${stack} takes it down; disks and bucket stay, and go by hand alone`;
}

/** In the order in which nothing is lost by mistake: the checkpoints are in a snapshot before the cluster goes. */
function gkeCommands(inputs: StackInputs): string | undefined {
  if (!hasTarget(inputs, "gke")) return undefined;
  const { stack, settings } = inputs;
  const names = clusterNames(inputs);
  const { project, bucket } = names;
  const buckets = settings.gke.storage.inBuckets.map((volume) => `gs://${volumeBucket(names, volume)}`);
  return [
    "type one after the other:",
    `npm run train-stop -- --stack ${stack}`,
    `npm run backup -- --stack ${stack}`,
    `npx pulumi config set --stack ${stack} --path 'tunestack:gke.deletionProtection' false`,
    `npx pulumi up --stack ${stack}`,
    `npx pulumi destroy --stack ${stack}`,
    "and for what stays, which a new cluster does not find by itself, each that you know to be the stack's:",
    `gcloud filestore instances list --project ${project} --filter 'labels.tunestack-stack=${stack}'; gcloud filestore instances delete NAME`,
    `gcloud compute disks list --project ${project} --filter 'name~^pvc-'; gcloud compute disks delete NAME`,
    ...(buckets.length === 0 ? [] : [`gcloud storage rm --recursive ${buckets.join(" ")}`]),
    `gcloud storage rm --recursive gs://${bucket} removes the snapshots too`,
  ].join("\n      ");
}
