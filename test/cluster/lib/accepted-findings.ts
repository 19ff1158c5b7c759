export interface AcceptedFinding {
  /** As kube-score calls the check. */
  readonly check: string;
  /** Which objects it may be found in, by kind and name. */
  readonly objects: "all" | readonly string[];
  readonly reason: string;
}

/** Critical findings of kube-score that stay, each with its reason. A test holds that each is still found. */
export const ACCEPTED: readonly AcceptedFinding[] = [
  {
    check: "container-image-pull-policy",
    objects: "all",
    reason:
      "Every image is named by its digest, so that a node which has it has the right one; pulling gigabytes again at each start makes it slow, and impossible while the registry is away.",
  },
  {
    check: "container-security-context-user-group-id",
    objects: "all",
    reason:
      "The user of the image, 1000, owns the files of every volume, which the same containers write in Docker and on a VM, and which move between them. What the check is after, a user that exists on the node too, is without rights there: no host path is mounted, and no capability is left.",
  },
  {
    check: "pod-probes-identical",
    objects: [
      "DaemonSet gpu-monitor",
      "Deployment experiment-runner",
      "Deployment jupyter",
      "Deployment tensorboard",
      "Deployment wandb-local",
    ],
    reason:
      "Both ask whether the service does its work, since one that does not is of no use; they differ in patience. It is taken out of its Service first, and started again when it fails twice as often.",
  },
  {
    check: "container-security-context-readonlyrootfilesystem",
    objects: ["Deployment wandb-local"],
    reason: "W&B's image sets up MySQL and nginx below / when it starts.",
  },
  {
    check: "container-ephemeral-storage-request-and-limit",
    objects: ["Job first-run-node-0"],
    reason:
      "Kueue admits no run that asks for a resource which its queue has no quota of, and nobody has a quota of scratch space. A run writes to volumes and memory alone: its root file system is read-only, and the kubelet rotates its log.",
  },
];
