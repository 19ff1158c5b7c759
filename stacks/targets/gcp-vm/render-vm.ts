import type * as gcp from "@pulumi/gcp";
import type * as pulumi from "@pulumi/pulumi";
import { GPU_TYPES } from "../../settings/gpu-types.ts";
import type { InputsOf } from "../../settings/load.ts";
import type { CloudNames } from "../google-cloud/names.ts";

const GIB = 2 ** 30;

/** Ubuntu LTS, for which NVIDIA packages its driver and toolkit. */
const SYSTEM_IMAGE = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64";

type GcpSettings = InputsOf<"gcp-vm">["settings"]["gcp"];

export interface VmReferences {
  readonly subnet: pulumi.Input<string>;
  readonly serviceAccount: pulumi.Input<string>;
  readonly bootScript: pulumi.Input<string>;
}

/** The machine: no address that the internet knows, Secure Boot, an account of its own, an end that the cloud sees to. */
export function renderTemplate(
  names: CloudNames,
  settings: GcpSettings,
  references: VmReferences,
): gcp.compute.InstanceTemplateArgs {
  const gpu = GPU_TYPES[settings.gpus[0] ?? "L4"];
  const spot = settings.provisioning === "spot";
  return {
    project: names.project,
    region: names.region,
    namePrefix: `${names.prefix}-`,
    machineType: gpu.machineType,
    labels: names.labels,
    ...(gpu.accelerator === undefined ? {} : { guestAccelerators: [{ type: gpu.accelerator, count: 1 }] }),
    disks: [
      {
        boot: true,
        autoDelete: true,
        sourceImage: SYSTEM_IMAGE,
        diskType: "pd-balanced",
        diskSizeGb: Math.ceil(settings.bootDisk / GIB),
      },
    ],
    networkInterfaces: [{ subnetwork: references.subnet, nicType: "GVNIC" }],
    scheduling: {
      provisioningModel: spot ? "SPOT" : "STANDARD",
      preemptible: spot,
      automaticRestart: false,
      // A GPU cannot be moved to another host.
      onHostMaintenance: "TERMINATE",
      instanceTerminationAction: "DELETE",
      maxRunDuration: { seconds: Math.ceil(settings.maximumRun) },
    },
    // What it may do is told by its roles; a scope narrower than this would only hide them.
    serviceAccount: { email: references.serviceAccount, scopes: ["https://www.googleapis.com/auth/cloud-platform"] },
    shieldedInstanceConfig: { enableSecureBoot: true, enableVtpm: true, enableIntegrityMonitoring: true },
    metadata: {
      "enable-oslogin": "TRUE",
      "block-project-ssh-keys": "TRUE",
      "serial-port-logging-enable": "TRUE",
      "startup-script": references.bootScript,
    },
  };
}

/** A group of one: it brings the machine back after a preemption, in whichever zone has one of the kinds of GPU. */
export function renderGroup(
  names: CloudNames,
  settings: GcpSettings,
  template: pulumi.Input<string>,
): gcp.compute.RegionInstanceGroupManagerArgs {
  return {
    project: names.project,
    region: names.region,
    name: names.prefix,
    baseInstanceName: names.prefix,
    versions: [{ instanceTemplate: template }],
    targetSize: 1,
    distributionPolicyZones: [...settings.zones],
    distributionPolicyTargetShape: "ANY_SINGLE_ZONE",
    ...(settings.gpus.length === 1 ? {} : { instanceFlexibilityPolicy: flexibility(settings) }),
    // A new template is for the next machine: a fine-tune is never ended by a change of settings.
    updatePolicy: {
      type: "OPPORTUNISTIC",
      minimalAction: "REPLACE",
      instanceRedistributionType: "NONE",
      maxSurgeFixed: 0,
      maxUnavailableFixed: settings.zones.length,
    },
    waitForInstances: false,
  };
}

function flexibility({
  gpus,
}: GcpSettings): gcp.types.input.compute.RegionInstanceGroupManagerInstanceFlexibilityPolicy {
  return {
    instanceSelections: gpus.map((gpu, index) => ({
      name: gpu.toLowerCase(),
      rank: index + 1,
      machineTypes: [GPU_TYPES[gpu].machineType],
    })),
  };
}
