import { existsSync } from "node:fs";
import { hasTarget, SECRET_NAMES, type StackInputs } from "../../../stacks/settings/load.ts";
import { cloudNames } from "../../../stacks/targets/google-cloud/names.ts";
import { secretFile, writeSecret } from "../setup/secrets.ts";
import { runGcloud } from "./gcloud.ts";

/**
 * Brings a cloud stack's secrets into a clone that has none of its own: whoever brings the stack up from here would
 * else take a token away, or make a password with which older snapshots could not be read. Where Google cannot be
 * asked, as in a preview without a login, nothing is brought.
 * @returns how many were brought.
 */
export async function takeCloudSecrets(inputs: StackInputs): Promise<number> {
  const { stack } = inputs;
  // The password is made with the stack, so a clone that has it has the others.
  if (!hasTarget(inputs, "gcp-vm") || existsSync(secretFile(stack, "restic-password"))) return 0;
  const { project, prefix } = cloudNames(stack, inputs.settings.gcp);
  const options = ["--project", project, "--quiet"];
  const listed = await runGcloud(["secrets", "list", ...options, "--format", "value(name.basename())"]);
  if (listed.exitCode !== 0) return 0;
  const there = new Set(listed.stdout.split("\n"));
  let brought = 0;
  for (const name of SECRET_NAMES) {
    if (!there.has(`${prefix}-${name}`) || existsSync(secretFile(stack, name))) continue;
    const access = ["secrets", "versions", "access", "latest", "--secret", `${prefix}-${name}`];
    const { exitCode, stdout } = await runGcloud([...access, ...options]);
    if (exitCode !== 0) continue;
    writeSecret(stack, name, stdout.trim());
    brought += 1;
  }
  return brought;
}
