import type * as gcp from "@pulumi/gcp";
import type * as pulumi from "@pulumi/pulumi";
import { COLAB_ACCELERATORS, GPU_TYPES } from "../../settings/gpu-types.ts";
import type { InputsOf } from "../../settings/load.ts";
import type { CloudNames } from "../google-cloud/names.ts";

const GIB = 2 ** 30;

type ColabSettings = InputsOf<"gcp-vm">["settings"]["gcp"]["colab"];
export type ColabSchedule = NonNullable<ColabSettings["schedule"]>;

/** Object of the bucket that holds the notebook of the schedule. */
export const NOTEBOOK_OBJECT = "colab/scheduled.ipynb";

/** What a person needs to use notebooks and the template. */
export const COLAB_ROLE = "roles/aiplatform.colabEnterpriseUser";

/** Vertex AI, of which Colab Enterprise is a part. */
export const COLAB_SERVICE = "aiplatform.googleapis.com";

/** What uses a key: Vertex AI for results, Compute Engine for disks, each by the project's service agent. */
export const KEY_USERS = { results: "gcp-sa-aiplatform", disks: "compute-system" } as const;

/**
 * A service agent of the project that Vertex AI's own is in. Google tells that one alone; all have the project's number.
 * @param agent Example: `serviceAccount:service-1234@gcp-sa-aiplatform.iam.gserviceaccount.com`.
 */
export function serviceAgent(agent: string, user: keyof typeof KEY_USERS): string {
  return agent.replace(KEY_USERS.results, KEY_USERS[user]);
}

/** The right to encrypt and decrypt with one key, and no other right on it. */
export function renderKeyGrant(key: string, member: pulumi.Input<string>): gcp.kms.CryptoKeyIAMMemberArgs {
  return { cryptoKeyId: key, role: "roles/cloudkms.cryptoKeyEncrypterDecrypter", member };
}

/** The kind of runtime: in the stack's own network, with Secure Boot, and no longer there than it is used. */
export function renderRuntimeTemplate(
  { project, region, prefix, labels }: CloudNames,
  settings: ColabSettings,
  network: pulumi.Input<string>,
  subnet: pulumi.Input<string>,
): gcp.colab.RuntimeTemplateArgs {
  return {
    project,
    location: region,
    name: prefix,
    displayName: prefix,
    labels,
    machineSpec: {
      machineType: GPU_TYPES[settings.gpu].machineType,
      acceleratorType: COLAB_ACCELERATORS[settings.gpu],
      acceleratorCount: 1,
    },
    dataPersistentDiskSpec: { diskType: "pd-balanced", diskSizeGb: String(Math.ceil(settings.disk / GIB)) },
    networkSpec: { enableInternetAccess: settings.publicInternet, network, subnetwork: subnet },
    idleShutdownConfig: { idleTimeout: `${settings.idleShutdown}s` },
    shieldedVmConfig: { enableSecureBoot: true },
    ...(settings.kmsKey === undefined ? {} : { encryptionSpec: { kmsKeyName: settings.kmsKey } }),
  };
}

/** Somebody's own runtime. It is made stopped: who uses it starts it. */
export function renderRuntime(
  { project, region, prefix }: CloudNames,
  user: string,
  template: pulumi.Input<string>,
): gcp.colab.RuntimeArgs {
  const name = `${prefix}-${user.replaceAll(/[^a-z0-9]+/gi, "-").toLowerCase()}`;
  return {
    project,
    location: region,
    name,
    displayName: name,
    notebookRuntimeTemplateRef: { notebookRuntimeTemplate: template },
    runtimeUser: user,
    autoUpgrade: true,
    desiredState: "STOPPED",
  };
}

/** Whom a scheduled notebook acts as. */
export function renderColabAccount({ project, prefix }: CloudNames): gcp.serviceaccount.AccountArgs {
  return { project, accountId: `${prefix}-colab`, displayName: `scheduled notebooks of the stack ${prefix}` };
}

export interface ScheduleReferences {
  readonly template: pulumi.Input<string>;
  readonly serviceAccount: pulumi.Input<string>;
  /** Address of the notebook in the bucket, and its generation, so that a new notebook is a new schedule. */
  readonly notebook: pulumi.Input<string>;
  readonly generation: pulumi.Input<string>;
  /** Folder of the bucket for executed notebooks. */
  readonly output: pulumi.Input<string>;
}

/** Runs the notebook at its times, one execution after another. */
export function renderSchedule(
  { project, region, prefix, labels }: CloudNames,
  { cron, maximumRun }: ColabSchedule,
  kmsKey: string | undefined,
  references: ScheduleReferences,
): gcp.colab.ScheduleArgs {
  return {
    project,
    location: region,
    displayName: prefix,
    cron,
    maxConcurrentRunCount: "1",
    allowQueueing: false,
    desiredState: "ACTIVE",
    createNotebookExecutionJobRequest: {
      notebookExecutionJob: {
        displayName: prefix,
        labels,
        gcsNotebookSource: { uri: references.notebook, generation: references.generation },
        gcsOutputUri: references.output,
        notebookRuntimeTemplateResourceName: references.template,
        serviceAccount: references.serviceAccount,
        executionTimeout: `${maximumRun}s`,
        ...(kmsKey === undefined ? {} : { encryptionSpec: { kmsKeyName: kmsKey } }),
      },
    },
  };
}
