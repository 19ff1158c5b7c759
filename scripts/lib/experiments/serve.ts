import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { resolve } from "node:path";
import { makePlan } from "../../../stacks/plan/plan.ts";
import { loadStack, type SecretName } from "../../../stacks/settings/load.ts";
import { usageError } from "../errors.ts";
import { openWorkloads } from "../open-workloads.ts";
import { formatOverview, readOverview } from "../overview.ts";
import { setPersonal, setPersonalAt } from "../personal.ts";
import { runQuietly } from "../process.ts";
import { PROJECT_DIR } from "../project.ts";
import { secretFile, writeSecret } from "../setup/secrets.ts";
import { setUp } from "../setup/setup.ts";
import { readInputs } from "../stack.ts";
import { up, withProfiles } from "../train.ts";
import { waitForServices } from "../wait.ts";
import type { Queue } from "./branch.ts";
import { withoutCredentials } from "./git-errors.ts";

/** Secrets that are taken from the environment where they are given, by the variable. */
const TAKEN: Readonly<Record<string, SecretName>> = {
  GIT_TOKEN: "git-token",
  WEBHOOK_URL: "webhook-url",
};

const ACCESS: readonly SecretName[] = ["git-token", "git-ssh-key", "git-known-hosts", "webhook-url"];

/**
 * Lets this stack run what is pushed to the queue: keeps access as secrets, sets repository and branch, brings the runner up.
 * @returns what there is then, as text.
 * @throws UserError, SettingsError where the repository cannot be used by a container, before anything is changed.
 */
export async function serveQueue(stack: string, queue: Queue): Promise<string> {
  const repository = await addressOf(queue);
  const values = {
    profiles: withProfiles(readInputs(stack), ["experiments"]),
    experiments: { repository, branch: queue.branch },
  };
  const override = { source: "command line", values };
  makePlan(loadStack({ projectDir: PROJECT_DIR, stack, environment: process.env, override }));
  await setUp(stack);
  const changed = await takeAccess(stack, repository);
  setPersonal(stack, { profiles: values.profiles });
  setPersonalAt(stack, ["experiments", "repository"], repository);
  setPersonalAt(stack, ["experiments", "branch"], queue.branch);
  const outputs = await up(stack);
  const workloads = await openWorkloads(outputs);
  const runner = outputs.services.find(({ name }) => name === "experiment-runner");
  // A secret is mounted by its file, and a new one is seen from the next start on.
  if (changed && runner !== undefined) await workloads.restart(runner.container);
  await waitForServices(workloads, outputs);
  return formatOverview(await readOverview(workloads, outputs));
}

/** The address that a container reaches, without what git or a person put into it to sign in. */
async function addressOf({ git, remote }: Queue): Promise<string> {
  const url = (await git.maybe(["remote", "get-url", remote])) ?? remote;
  if (!/^(\/|\.|file:)/.test(url)) return withoutCredentials(url);
  throw usageError({
    path: "--remote",
    value: url,
    reason: "is a folder of this machine, which the runner's container does not see",
    remedy: "give the address of a git server: https://host/owner/name.git or git@host:owner/name.git",
  });
}

/** Keeps what the runner signs in with; what was kept before and is not given now stays. @returns whether any changed. */
async function takeAccess(stack: string, repository: string): Promise<boolean> {
  const before = secretsOf(stack);
  for (const [variable, name] of Object.entries(TAKEN)) {
    const value = process.env[variable];
    if (value !== undefined && value !== "") writeSecret(stack, name, value);
  }
  await takeKeys(stack, repository);
  return JSON.stringify(secretsOf(stack)) !== JSON.stringify(before);
}

function secretsOf(stack: string): readonly string[] {
  const files = ACCESS.map((name) => secretFile(stack, name));
  return files.map((file) => (existsSync(file) ? readFileSync(file, "utf8") : ""));
}

/** An SSH key that is given, and the host keys that this person trusts. */
async function takeKeys(stack: string, repository: string): Promise<void> {
  const host = /^(?:ssh:\/\/)?[^\s/@]+@([^\s/:]+)/.exec(repository)?.[1];
  if (host === undefined) return;
  const given = process.env.GIT_SSH_KEY_FILE;
  if (given !== undefined) writeSecret(stack, "git-ssh-key", readKey(given));
  if (!existsSync(secretFile(stack, "git-known-hosts"))) {
    // The runner trusts the keys that this person trusts already, and no others.
    const known = await runQuietly("ssh-keygen", ["-F", host]).catch(() => "");
    const lines = known.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
    if (lines.length > 0) writeSecret(stack, "git-known-hosts", lines.join("\n"));
  }
}

function readKey(given: string): string {
  const file = resolve(given.replace(/^~(?=\/)/, homedir()));
  try {
    return readFileSync(file, "utf8").trimEnd();
  } catch {
    throw usageError({
      path: "GIT_SSH_KEY_FILE",
      value: file,
      reason: "cannot be read",
      remedy: "give the file of a private key without a passphrase, made for this repository alone (a deploy key)",
    });
  }
}
