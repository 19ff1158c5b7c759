import type * as kubernetes from "@pulumi/kubernetes";
import { stringify } from "yaml";
import type { GkeSettings } from "../../settings/gke.ts";

/** Versions with which the objects of a stack are tested on a real control plane (offline/go/control-plane). */
export const CONTROLLER_VERSIONS = { jobset: "0.11.1", kueue: "0.16.1" } as const;

export type Controller = keyof typeof CONTROLLER_VERSIONS;

/** In the order in which they are installed: Kueue looks at its start whether there are JobSets to queue. */
export const CONTROLLERS: readonly Controller[] = ["jobset", "kueue"];

/** A controller's own chart at a pinned version, with the released image in place of the one that the chart was built with. */
export function renderController(
  controller: Controller,
  { controllerRegistry }: Pick<GkeSettings, "controllerRegistry">,
): kubernetes.helm.v3.ReleaseArgs {
  const version = CONTROLLER_VERSIONS[controller];
  const image = {
    repository: `${controllerRegistry}/${controller}/${controller}`,
    tag: `v${version}`,
    pullPolicy: "IfNotPresent",
  };
  return {
    name: controller,
    namespace: `${controller}-system`,
    createNamespace: true,
    chart: `oci://${controllerRegistry}/${controller}/charts/${controller}`,
    version,
    // What cannot be brought up is taken back, and tried again by the next update.
    atomic: true,
    timeout: 600,
    values: valuesOf(controller, image),
  };
}

function valuesOf(controller: Controller, image: object): Record<string, unknown> {
  switch (controller) {
    case "jobset":
      return { image };
    case "kueue":
      return {
        controllerManager: { manager: { image } },
        managerConfig: { controllerManagerConfigYaml: stringify(KUEUE) },
      };
  }
}

/** As the chart has it, but for the kinds of jobs: pods and services of others are none of its business. */
const KUEUE = {
  apiVersion: "config.kueue.x-k8s.io/v1beta2",
  kind: "Configuration",
  health: { healthProbeBindAddress: ":8081" },
  metrics: { bindAddress: ":8443" },
  webhook: { port: 9443 },
  leaderElection: { leaderElect: true, resourceName: "c1f6bfd2.kueue.x-k8s.io" },
  clientConnection: { qps: 50, burst: 100 },
  integrations: { frameworks: ["batch/job", "jobset.x-k8s.io/jobset", "trainer.kubeflow.org/trainjob"] },
};
