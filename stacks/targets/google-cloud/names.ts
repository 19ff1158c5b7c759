import { createHash } from "node:crypto";
import { bucketName, type CloudSettings } from "../../settings/google-cloud.ts";

/** What the resources of a stack are called in Google Cloud, and where they are. */
export interface CloudNames {
  readonly project: string;
  readonly region: string;
  /** Before every name. Example: `tunestack-prod`. */
  readonly prefix: string;
  readonly bucket: string;
  /** Ids of roles take no hyphens. */
  readonly role: string;
  readonly labels: Readonly<Record<string, string>>;
}

export function cloudNames(stack: string, { project, region }: Pick<CloudSettings, "project" | "region">): CloudNames {
  const prefix = `tunestack-${stack}`;
  return {
    project,
    region,
    prefix,
    bucket: bucketName(stack, project),
    role: prefix.replaceAll("-", "_"),
    labels: { "tunestack-stack": stack },
  };
}

/** Ids of service accounts take 6 to 30 characters: https://cloud.google.com/iam/docs/service-accounts-create. */
const LONGEST_ACCOUNT = 30;

/** The id of the account of one part of a stack. Example: `tunestack-prod-backup`. */
export function accountId({ prefix }: Pick<CloudNames, "prefix">, part: string): string {
  const full = `${prefix}-${part}`;
  if (full.length <= LONGEST_ACCOUNT) return full;
  const hash = createHash("sha256").update(full).digest("hex").slice(0, 6);
  return `${full.slice(0, LONGEST_ACCOUNT - 7).replace(/-+$/, "")}-${hash}`;
}

/** The mail of an account, by which it is granted rights. */
export function accountEmail({ project }: Pick<CloudNames, "project">, id: string): string {
  return `${id}@${project}.iam.gserviceaccount.com`;
}
