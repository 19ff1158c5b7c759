// Plain JavaScript, since `npx pulumi` starts here and should cost next to nothing.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Version of the Pulumi CLI; the npm package @pulumi/pulumi has the same. */
export const PULUMI_VERSION = "3.250.0";

/** Absolute folder of the project. */
export const PROJECT_DIR = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** The project's own PULUMI_HOME: the user's is left alone. */
export const PULUMI_HOME = join(PROJECT_DIR, ".tunestack", "pulumi-home");

/** Folder that holds `bin/pulumi`, as the Automation API wants it. */
export const PULUMI_ROOT = join(PULUMI_HOME, "versions", PULUMI_VERSION);

export const PASSPHRASE_FILE = join(PROJECT_DIR, ".tunestack", "passphrase");

const DOCKER_CONFIG = join(PULUMI_HOME, "docker-config");

/**
 * What Pulumi needs in its environment; what a person set already wins.
 * @param {Readonly<Record<string, string | undefined>>} environment
 * @returns {Record<string, string>}
 */
export function pulumiEnvironment(environment) {
  const bin = join(PULUMI_ROOT, "bin");
  /** @type {Record<string, string>} */
  const ours = {
    PULUMI_HOME,
    PULUMI_SKIP_UPDATE_CHECK: "true",
    // The salt of the secrets is also in the state, so that a lost personal stack file is no loss.
    PULUMI_FALLBACK_TO_STATE_SECRETS_MANAGER: "true",
    PATH: `${bin}:${environment.PATH ?? ""}`,
  };
  // Where the person has no buildx, set-up made one and a Docker configuration folder that reads the person's own.
  if (existsSync(DOCKER_CONFIG)) ours.DOCKER_CONFIG = DOCKER_CONFIG;
  const passphraseGiven =
    environment.PULUMI_CONFIG_PASSPHRASE !== undefined || environment.PULUMI_CONFIG_PASSPHRASE_FILE !== undefined;
  return passphraseGiven ? ours : { ...ours, PULUMI_CONFIG_PASSPHRASE_FILE: PASSPHRASE_FILE };
}
