import type { Plan, Workload, WorkloadName } from "../../plan/types.ts";
import type { GkeSettings } from "../../settings/gke.ts";
import { accountId } from "../google-cloud/names.ts";
import { type ClusterNames, volumeBucket } from "./names.ts";

/** A part of the stack that is somebody in Google Cloud, and what it may do there. */
export interface CloudAccount {
  readonly workload: WorkloadName;
  /** Id of its account. */
  readonly id: string;
  readonly grants: readonly BucketGrant[];
}

export interface BucketGrant {
  readonly bucket: string;
  readonly role: "roles/storage.objectViewer" | "roles/storage.objectUser";
}

const PARTS: Readonly<Record<WorkloadName, string>> = {
  "qlora-training": "run",
  jupyter: "jupyter",
  tensorboard: "tensorboard",
  "wandb-local": "wandb",
  "gpu-monitor": "monitor",
  "training-backup": "backup",
  "experiment-runner": "runner",
  experiment: "experiment",
};

/** The parts that use buckets, each with an account of its own for those that it uses; the others are nobody. */
export function cloudAccounts(
  { services, run }: Plan,
  settings: GkeSettings,
  names: ClusterNames,
): readonly CloudAccount[] {
  const jobs = services.flatMap(({ submits }) => (submits === undefined ? [] : [submits.job]));
  const workloads = [...services, ...jobs, ...(run === undefined ? [] : [run.workload])];
  return workloads.flatMap((workload): readonly CloudAccount[] => {
    const grants = [...volumeGrants(workload, settings, names), ...snapshotGrants(workload, names)];
    if (grants.length === 0) return [];
    return [{ workload: workload.name, id: accountId(names, PARTS[workload.name]), grants }];
  });
}

function volumeGrants(
  { mounts }: Pick<Workload, "mounts">,
  { storage }: GkeSettings,
  names: ClusterNames,
): readonly BucketGrant[] {
  return storage.inBuckets.flatMap((volume): readonly BucketGrant[] => {
    const mount = mounts.find((one) => one.kind === "volume" && one.volume === volume);
    if (mount?.kind !== "volume") return [];
    const role = mount.readOnly ? "roles/storage.objectViewer" : "roles/storage.objectUser";
    return [{ bucket: volumeBucket(names, volume), role }];
  });
}

/** Snapshots go to the stack's bucket, unless the settings send them elsewhere. */
function snapshotGrants(
  { environment }: Pick<Workload, "environment">,
  { bucket }: ClusterNames,
): readonly BucketGrant[] {
  const repository = environment.RESTIC_REPOSITORY;
  return repository?.startsWith(`gs:${bucket}:`) === true ? [{ bucket, role: "roles/storage.objectUser" }] : [];
}
