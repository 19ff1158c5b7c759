import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { type GcpVmOutputs, planOutputs } from "../../outputs.ts";
import type { Plan } from "../../plan/types.ts";
import { type InputsOf, SECRET_NAMES } from "../../settings/load.ts";
import { containerName, ownerOf, volumeName } from "../docker/render.ts";
import { cloudNames } from "../google-cloud/names.ts";
import { inputFiles } from "./inputs.ts";
import { renderBoot } from "./render-boot.ts";
import { GcpVmStack } from "./stack.ts";

/** Declares a plan on a GPU VM of Google Cloud. */
export async function declareGcpVmStack(inputs: InputsOf<"gcp-vm">, plan: Plan): Promise<object> {
  const { projectDir, settings } = inputs;
  const names = cloudNames(inputs.stack, settings.gcp);
  const stack = new GcpVmStack("tunestack", {
    names,
    settings: settings.gcp,
    plan,
    projectDir,
    owner: ownerOf(inputs.stack, projectDir),
    inputs: inputFiles(plan),
    secrets: readSecrets(inputs),
    bootScript: renderBoot({
      project: names.project,
      region: names.region,
      group: names.prefix,
      bucket: names.bucket,
      secrets: SECRET_NAMES,
      maximumRunSeconds: settings.gcp.maximumRun,
      idleShutdownSeconds: settings.gcp.idleShutdown,
      agent: agentModules(),
    }),
  });
  const known: Omit<GcpVmOutputs, "images"> = {
    ...planOutputs(plan, {
      container: (name) => containerName({ prefix: "" }, name),
      volume: (name) => volumeName({ prefix: "" }, name),
    }),
    target: "gcp-vm",
    cloud: {
      project: names.project,
      region: names.region,
      zones: settings.gcp.zones,
      group: names.prefix,
      provisioning: settings.gcp.provisioning,
      bucket: names.bucket,
    },
  };
  return { ...known, images: stack.images };
}

/** The VM's own part: every Python module of the folder `vm`. */
export function agentModules(): Readonly<Record<string, string>> {
  const folder = join(import.meta.dirname, "vm");
  const names = readdirSync(folder).filter((name) => name.endsWith(".py"));
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(folder, name), "utf8")]));
}

/** Secret from here on: Pulumi encrypts them in its state and masks them in what it shows. */
function readSecrets({ secretFiles }: InputsOf<"gcp-vm">): ReadonlyMap<string, pulumi.Output<string>> {
  return new Map(
    Object.entries(secretFiles).map(([name, file]) => [name, pulumi.secret(readFileSync(file, "utf8").trim())]),
  );
}
