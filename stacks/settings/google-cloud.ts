import { z } from "zod";
import { duration } from "./values.ts";

export const zone = z.string().regex(/^[a-z]+-[a-z]+\d+-[a-z]$/, { error: "is no zone: write it as us-central1-a" });

/** What every target in Google Cloud has in common. */
export const cloudFields = {
  /** Id of the Google Cloud project that pays. Example: `my-team-ml`. */
  project: z.string().regex(/^[a-z][a-z0-9-]{4,28}[a-z0-9]$/, {
    error: "is no project id: 6 to 30 lower-case letters, digits, hyphens",
  }),
  /** Region of network, registry and bucket. Default: `us-central1`. */
  region: z.string().regex(/^[a-z]+-[a-z]+\d+$/, { error: "is no region: write it as us-central1" }),
  /** Private addresses of the subnet. Default: `10.10.0.0/24`. */
  subnet: z.cidrv4({ error: "is no range of addresses: write it as 10.10.0.0/24" }),
  /** Who may reach what runs there. Example: `[user:me@example.com, group:ml@example.com]`. */
  access: z.array(
    z.string().regex(/^(user|group|serviceAccount):\S+@\S+$/, {
      error: "is nobody's name: write it as user:me@example.com or group:team@example.com",
    }),
  ),
  /** Time for which deleted snapshots can still be had from the bucket. Default: `30d`. */
  snapshotRetention: duration,
  /** Monthly budget, with word at 50, 80 and 100 % of it; undefined has none, which the policy refuses for `prod`. */
  budget: z
    .strictObject({
      /** US dollars a month. */
      monthly: z.number().positive(),
      /** Id of the billing account. Example: `012345-6789AB-CDEF01`. */
      billingAccount: z.string().regex(/^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$/, {
        error: "is no billing account: write it as 012345-6789AB-CDEF01",
      }),
    })
    .optional(),
} as const;

const cloudSchema = z.strictObject(cloudFields);
export type CloudSettings = z.output<typeof cloudSchema>;

interface Zones {
  readonly region: string;
  readonly zones: readonly string[];
}

/** What is wrong with a list of zones, by their place in it. */
export function zoneProblems({ region, zones }: Zones): readonly (readonly [number, string, string])[] {
  return zones.flatMap((zone, index) => [
    ...(zone.startsWith(`${region}-`)
      ? []
      : [[index, `is no zone of the region ${region}`, `write zones as ${region}-a, or change the region`] as const]),
    ...(zones.indexOf(zone) === index ? [] : [[index, "stands there twice", "take it out"] as const]),
  ]);
}

/** The bucket of a stack. Bucket names are shared by the whole world, so the project is part of it. */
export function bucketName(stack: string, project: string): string {
  return `${project}-tunestack-${stack}`;
}
