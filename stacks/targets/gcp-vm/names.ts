import { bucketName } from "../../settings/gcp.ts";
import type { InputsOf } from "../../settings/load.ts";

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

export function cloudNames({ stack, settings }: InputsOf<"gcp-vm">): CloudNames {
  const { project, region } = settings.gcp;
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

/** The data disk of a zone. */
export function dataDiskName({ prefix }: CloudNames, zone: string): string {
  return `${prefix}-data-${zone}`;
}
