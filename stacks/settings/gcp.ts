import { z } from "zod";
import { cloudFields, zone, zoneProblems } from "./google-cloud.ts";
import { COLAB_GPU_NAMES, GPU_TYPE_NAMES, GPU_TYPES } from "./gpu-types.ts";
import { duration, size } from "./values.ts";

/** Google takes no other times: https://cloud.google.com/colab/docs/idle-shutdown. */
const COLAB_IDLE = { least: 600, most: 86_400 } as const;

const KMS_KEY = /^projects\/[^/]+\/locations\/([^/]+)\/keyRings\/[^/]+\/cryptoKeys\/[^/]+$/;

/** Notebooks of Colab Enterprise in the stack's project. Off by default. */
const colab = z.strictObject({
  /** Default: false. */
  enabled: z.boolean(),
  /** Kind of GPU of a runtime. Default: `L4`. */
  gpu: z.enum(COLAB_GPU_NAMES),
  /** Data disk of a runtime. Default: `100GiB`. */
  disk: size,
  /** A runtime stops when nothing was run in it for this long, from 10 minutes to 24 hours. Default: `30m`. */
  idleShutdown: duration.refine((seconds) => seconds >= COLAB_IDLE.least && seconds <= COLAB_IDLE.most, {
    error: "is outside of what Colab Enterprise takes",
    params: { remedy: "write a time from 10m to 24h" },
  }),
  /** An address of its own on the internet; without it Cloud NAT leads out all the same. Default: false. */
  publicInternet: z.boolean(),
  /** Who gets a runtime of their own, by the mail of their login. It is made stopped, and costs its disk until started. */
  users: z.array(z.email({ error: "is no mail of a login: write it as me@example.com" })),
  /** Key of your own that encrypts disks and results. Example: `projects/p/locations/us-central1/keyRings/r/cryptoKeys/k`. */
  kmsKey: z
    .string()
    .regex(KMS_KEY, { error: "is no key: write it as projects/P/locations/L/keyRings/R/cryptoKeys/K" })
    .optional(),
  /** Lets Google's service agent of Vertex AI use the key; false where others keep the key's rights. Default: true. */
  grantKey: z.boolean(),
  /** Runs a notebook again and again, as a service account of its own; undefined runs none. */
  schedule: z
    .strictObject({
      /** When, in the form of cron, with a time zone if you like. Example: `TZ=Europe/Berlin 0 3 * * *`. */
      cron: z.string().regex(/^(TZ=\S+ )?\S+ \S+ \S+ \S+ \S+$/, {
        error: "is no time of cron: write minute, hour, day, month and weekday, such as 0 3 * * *",
      }),
      /** Notebook of this machine, relative to the project. Example: `colab_train.ipynb`. */
      notebook: z.string().min(1),
      /** An execution ends after this. Default of Google's: 24h. Example: `6h`. */
      maximumRun: duration,
    })
    .optional(),
});

/** The block of the target `gcp-vm`. */
const fields = z.strictObject({
  ...cloudFields,
  /** Zones of the region in which the VM may run; Google takes the one with room. Each has a data disk of its own. */
  zones: z.array(zone).min(1),
  /** Kinds of GPU that will do, the preferred one first: where no zone has it, the next one is taken. Default: `[L4]`. */
  gpus: z.array(z.enum(GPU_TYPE_NAMES)).min(1),
  /** `spot` is cheaper and may be taken away at any time; the run then goes on from its last checkpoint. Default: `spot`. */
  provisioning: z.enum(["spot", "standard"]),
  /** Disk of the operating system and the images. Default: `50GiB`. */
  bootDisk: size,
  /** Disk that holds the volumes and outlives the VM. Default: `200GiB`. */
  dataDisk: size,
  /** The cloud deletes the VM after this time, whatever it does. Default: `24h`. */
  maximumRun: duration,
  /** The VM goes when no training step and no GPU work was seen for this long. Default: `30m`. */
  idleShutdown: duration,
  colab,
});

/** The block with what its fields say of each other. */
export const gcpSchema = fields.superRefine(({ region, zones, gpus, provisioning, colab: { kmsKey } }, context) => {
  const problem = (path: (string | number)[], message: string, remedy: string) =>
    context.addIssue({ code: "custom", path, message, params: { remedy } });
  for (const [index, reason, remedy] of zoneProblems({ region, zones })) problem(["zones", index], reason, remedy);
  const keyLocation = KMS_KEY.exec(kmsKey ?? "")?.[1];
  if (keyLocation !== undefined && keyLocation !== region)
    problem(
      ["colab", "kmsKey"],
      `is in ${keyLocation}, and the disks that it is to encrypt in ${region}`,
      `take a key of a key ring in ${region}`,
    );
  gpus.forEach((gpu, index) => {
    if (gpus.indexOf(gpu) !== index) problem(["gpus", index], "stands there twice", "take it out");
    if (GPU_TYPES[gpu].accelerator !== undefined && gpus.length > 1)
      problem(
        ["gpus", index],
        "cannot be one of several: it is attached to a machine, and the others come with theirs",
        `name ${gpu} alone, or take it out`,
      );
    if (GPU_TYPES[gpu].spotOnly && provisioning !== "spot")
      problem(["gpus", index], "is rented as spot alone", "set gcp.provisioning to spot, or take it out");
  });
});

const SERVICES = ["artifactregistry", "compute", "iam", "iap", "logging", "secretmanager", "storage"] as const;

/** The services of Google's that a stack needs, which a new project has switched off. */
export function googleServices({
  budget,
  colab: { enabled },
}: Pick<z.output<typeof gcpSchema>, "budget" | "colab">): readonly string[] {
  return [
    ...SERVICES,
    ...(budget === undefined ? [] : ["billingbudgets"]),
    // Colab Enterprise is part of Vertex AI, and keeps its notebooks in Dataform.
    ...(enabled ? ["aiplatform", "dataform"] : []),
  ];
}
