import { join } from "node:path";
import { exists } from "./cache.ts";
import { lastLines, run } from "./process.ts";
import { versions } from "./recipes.ts";
import type { SetupOptions } from "./setup.ts";

/**
 * Installs the CLI from Pulumi's host, by the SDK's own installer. False when that fails although the host answered:
 * the caller then builds it.
 */
export async function installOfficialCli({ pulumiHome, report }: SetupOptions): Promise<boolean> {
  report(`downloading the Pulumi CLI ${versions.pulumi}`);
  const root = join(pulumiHome, "versions", versions.pulumi);
  try {
    const { PulumiCommand } = await import("@pulumi/pulumi/automation/index.js");
    const { SemVer } = await import("semver");
    await PulumiCommand.install({ root, version: new SemVer(versions.pulumi) });
  } catch (error) {
    report(`the Pulumi CLI could not be downloaded: ${error instanceof Error ? error.message : String(error)}`);
    return false;
  }
  return exists(join(root, "bin", "pulumi"));
}

/** Installs a plugin from Pulumi's host, by the CLI. False when that fails. */
export async function installOfficialPlugin(
  { pulumiHome, report }: SetupOptions,
  name: string,
  version: string,
): Promise<boolean> {
  report(`downloading the Pulumi plugin ${name} ${version}`);
  const pulumi = join(pulumiHome, "versions", versions.pulumi, "bin", "pulumi");
  const installed = await run(
    pulumi,
    ["plugin", "install", "resource", name, version, "--reinstall", "--non-interactive"],
    {
      env: { ...process.env, PULUMI_HOME: pulumiHome, PULUMI_SKIP_UPDATE_CHECK: "true" },
      timeoutMs: 300_000,
    },
  );
  if (installed.code === 0) return true;
  report(`the Pulumi plugin ${name} could not be downloaded: ${lastLines(installed.output, 2)}`);
  return false;
}
