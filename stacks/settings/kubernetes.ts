import { z } from "zod";
import { clusterFields } from "./cluster.ts";

/** The block of the target `kubernetes`: any cluster that a kubeconfig leads to. */
export const kubernetesSchema = z.strictObject({
  /** Kubeconfig file; undefined is `~/.kube/config`. Environment: `KUBECONFIG`. */
  kubeconfig: z.string().min(1).optional(),
  /** Context of the kubeconfig; undefined is its current one. Example: `team-cluster`. */
  context: z.string().min(1).optional(),
  /** Registry and path that the images are pushed to and the nodes pull from. Example: `registry.example.com/ml`. */
  registry: z.string().regex(/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d+)?(\/[a-z0-9]+([._-][a-z0-9]+)*)*$/, {
    error: "is no registry: write host and path without https:// and without a tag",
  }),
  /** Secret of the namespace with which the nodes pull; undefined where they need none. Example: `registry-login`. */
  pullSecret: z.string().min(1).optional(),
  ...clusterFields,
});
