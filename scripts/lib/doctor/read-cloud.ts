import { execFile } from "node:child_process";
import { z } from "zod";
import { googleServices } from "../../../stacks/settings/gcp.ts";
import { clusterServices } from "../../../stacks/settings/gke.ts";
import { GPU_TYPES } from "../../../stacks/settings/gpu-types.ts";
import { hasTarget, type StackInputs } from "../../../stacks/settings/load.ts";
import { MISSING, runGcloud } from "../gcloud/gcloud.ts";
import type { CloudFacts, CloudWanted, Quota } from "./cloud-checks.ts";

const quotasSchema = z.object({
  quotas: z.array(z.object({ metric: z.string(), limit: z.number(), usage: z.number() })),
});

/** What a stack wants of Google Cloud; undefined where it is elsewhere. */
export function cloudWanted(inputs: StackInputs): CloudWanted | undefined {
  const { stack } = inputs;
  if (hasTarget(inputs, "gcp-vm")) {
    const { project, region, zones, gpus, provisioning } = inputs.settings.gcp;
    const services = googleServices(inputs.settings.gcp);
    return { stack, block: "gcp", project, region, zones, gpus, provisioning, services };
  }
  if (!hasTarget(inputs, "gke")) return undefined;
  const { project, region, zones, queue } = inputs.settings.gke;
  return {
    stack,
    block: "gke",
    project,
    region,
    zones,
    gpus: [...new Set(queue.pools.flatMap(({ gpu }) => (gpu === "none" ? [] : [gpu])))],
    // Where there is no quota of its own, spot takes the ordinary one.
    provisioning: queue.pools.some(({ provisioning }) => provisioning === "spot") ? "spot" : "standard",
    services: clusterServices(inputs.settings.gke),
  };
}

/** What gcloud tells of a project: each answer only where the one before it was to be had. */
export async function readCloud(asked: CloudWanted): Promise<CloudFacts> {
  const { project, region, gpus } = asked;
  const version = await runGcloud(["--version"]);
  if (version.exitCode === MISSING) return { ...asked, gcloud: false };
  const account = await answer(["auth", "list", "--filter", "status:ACTIVE", "--format", "value(account)"]);
  if (account === undefined || account === "") return { ...asked, gcloud: true, account: undefined };
  const [application, found, clusterPlugin] = await Promise.all([
    runGcloud(["auth", "application-default", "print-access-token", "--quiet"]),
    answer(["projects", "describe", project, "--format", "value(projectId)"]),
    asked.block === "gke" ? isThere("gke-gcloud-auth-plugin") : false,
  ]);
  const person = { ...asked, gcloud: true, account, applicationDefault: application.exitCode === 0, clusterPlugin };
  if (found !== project) return { ...person, found: false };
  const enabled = await answer([
    "services",
    "list",
    "--enabled",
    "--project",
    project,
    "--format",
    "value(config.name)",
  ]);
  const known = { ...person, found: true, enabled: enabled?.split("\n") };
  if (known.enabled?.includes("compute.googleapis.com") !== true) return known;
  const [regional, global, offered] = await Promise.all([
    quotas(["compute", "regions", "describe", region, "--project", project]),
    quotas(["compute", "project-info", "describe", "--project", project]),
    machineZones(project, [...new Set(gpus.map((gpu) => GPU_TYPES[gpu].machineType))]),
  ]);
  return { ...known, regional, global, offered };
}

async function isThere(program: string): Promise<boolean> {
  return await new Promise((resolve) => {
    execFile(program, ["--version"], (error) => resolve(error === null));
  });
}

async function answer(args: readonly string[]): Promise<string | undefined> {
  const { exitCode, stdout } = await runGcloud([...args, "--quiet"]);
  return exitCode === 0 ? stdout.trim() : undefined;
}

async function quotas(args: readonly string[]): Promise<readonly Quota[] | undefined> {
  const text = await answer([...args, "--format", "json(quotas)"]);
  return text === undefined ? undefined : quotasSchema.parse(JSON.parse(text)).quotas;
}

/** Zones in which Google offers each machine type. */
async function machineZones(
  project: string,
  types: readonly string[],
): Promise<ReadonlyMap<string, readonly string[]> | undefined> {
  const filter = `name=(${types.join(" ")})`;
  const text = await answer([
    ...["compute", "machine-types", "list", "--project", project],
    ...["--filter", filter, "--format", "value(name,zone)"],
  ]);
  if (text === undefined) return undefined;
  const rows = text.split("\n").map((line) => line.split(/\s+/));
  return new Map(types.map((type) => [type, rows.flatMap(([name, zone]) => (name === type && zone ? [zone] : []))]));
}
