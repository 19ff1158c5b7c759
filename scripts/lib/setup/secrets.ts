import { randomBytes } from "node:crypto";
import { chmodSync, chownSync, existsSync, mkdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { GENERATED_SECRETS, type SecretName, secretsFolder } from "../../../stacks/settings/load.ts";
import { PASSPHRASE_FILE, PERSONAL_DIR, PROJECT_DIR } from "../project.ts";

/** User of our containers, who must be able to read the secrets mounted into them. */
const CONTAINER_USER = 1000;

/**
 * Makes the folder for everything personal, the passphrase of the stack's secrets, and the tokens that services need.
 * What exists is never touched: losing a passphrase or a restic password is losing what it protects.
 * @returns how many were made.
 */
export function ensureSecrets(stack: string): number {
  mkdirSync(PERSONAL_DIR, { recursive: true });
  chmodSync(PERSONAL_DIR, 0o700);
  for (const folder of ["state", "stacks", "pulumi-home"]) mkdirSync(join(PERSONAL_DIR, folder), { recursive: true });
  let made = 0;
  if (!existsSync(PASSPHRASE_FILE)) {
    writePrivately(PASSPHRASE_FILE, randomBytes(32).toString("base64url"));
    made += 1;
  }
  for (const name of GENERATED_SECRETS) {
    if (existsSync(secretFile(stack, name))) continue;
    writeSecret(stack, name, randomBytes(24).toString("base64url"));
    made += 1;
  }
  return made;
}

export function secretFile(stack: string, name: SecretName): string {
  return join(secretsFolder(PROJECT_DIR, stack), name);
}

/**
 * Writes a secret that is mounted into containers. Its folder is for its owner only; the file belongs to the containers'
 * user where we may give it away, and can else be read by whoever gets past the folder.
 */
export function writeSecret(stack: string, name: SecretName, value: string): void {
  const file = secretFile(stack, name);
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writePrivately(file, value);
  const { uid } = statSync(file);
  if (process.getuid?.() === 0) chownSync(file, CONTAINER_USER, CONTAINER_USER);
  else if (uid !== CONTAINER_USER) chmodSync(file, 0o444);
}

function writePrivately(file: string, value: string): void {
  const aside = `${file}.new`;
  writeFileSync(aside, `${value}\n`, { mode: 0o600 });
  chmodSync(aside, 0o600);
  renameSync(aside, file);
}
