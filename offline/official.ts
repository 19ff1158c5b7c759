import { mkdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { exists } from "./cache.ts";
import type { SetupOptions } from "./options.ts";
import { lastLines, run } from "./process.ts";
import { versions } from "./recipes.ts";

/** Downloads the CLI into `<root>/bin`. */
export type CliInstaller = (root: string) => Promise<void>;

const bySdk: CliInstaller = async (root) => {
  const { PulumiCommand } = await import("@pulumi/pulumi/automation/index.js");
  const { SemVer } = await import("semver");
  await PulumiCommand.install({ root, version: new SemVer(versions.pulumi) });
};

/**
 * Installs the CLI from Pulumi's host, by the SDK's own installer, aside and then in place of what was there. False when
 * that fails although the host answered: the caller then builds it.
 */
export async function installOfficialCli(
  { pulumiHome, report }: Pick<SetupOptions, "pulumiHome" | "report">,
  install: CliInstaller = bySdk,
): Promise<boolean> {
  report(`downloading the Pulumi CLI ${versions.pulumi}`);
  const aside = join(pulumiHome, "versions", `.installing-${process.pid}`);
  const bin = join(pulumiHome, "versions", versions.pulumi, "bin");
  try {
    await install(aside);
    if (!(await exists(join(aside, "bin", "pulumi")))) throw new Error("the installer left no program behind");
    await rm(bin, { recursive: true, force: true });
    await mkdir(dirname(bin), { recursive: true });
    await rename(join(aside, "bin"), bin);
    return true;
  } catch (error) {
    report(`the Pulumi CLI could not be downloaded: ${error instanceof Error ? error.message : String(error)}`);
    return false;
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
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
