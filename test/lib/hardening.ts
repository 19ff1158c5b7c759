import { z } from "zod";

/** Containers that cannot be held to a rule, by name and with the reason. */
const NEEDS_ITS_OWN_USER = new Set(["wandb-local"]); // Its image sets up MySQL and nginx below / as the user that it chooses.
/** A run takes what the machine has, unless a limit is set. */
const MAY_TAKE_ALL_MEMORY = new Set(["qlora-training", "experiment-runner"]);

/** The part of the Docker provider's container that hardening is about. */
const containerSchema = z.looseObject({
  user: z.string().optional(),
  readOnly: z.boolean().optional(),
  privileged: z.boolean().optional(),
  capabilities: z.object({ drops: z.array(z.string()).optional(), adds: z.array(z.string()).optional() }).optional(),
  securityOpts: z.array(z.string()).optional(),
  ports: z.array(z.object({ external: z.int(), ip: z.string().optional() })).optional(),
  networkMode: z.string().optional(),
  pidMode: z.string().optional(),
  ipcMode: z.string().optional(),
  memory: z.int().optional(),
  ulimits: z.array(z.object({ name: z.string(), hard: z.int() })).optional(),
  healthcheck: z.object({ tests: z.array(z.string()) }).optional(),
  logOpts: z.record(z.string(), z.string()).optional(),
  mounts: z
    .array(z.object({ type: z.string(), source: z.string(), target: z.string(), readOnly: z.boolean() }))
    .optional(),
  tmpfs: z.record(z.string(), z.string()).optional(),
  envs: z.array(z.string()).optional(),
  command: z.array(z.string()).optional(),
  labels: z.array(z.object({ label: z.string(), value: z.string() })).optional(),
});

type Container = z.output<typeof containerSchema>;

/**
 * Where a container falls short of what the design promises of each: not root, a read-only root file system, no
 * capabilities, no new privileges, limits, a health check, rotated logs, ports on the loopback address, and no secret in
 * what `docker inspect` shows.
 * @param secrets values that must not stand in its arguments.
 */
export function weaknesses(name: string, given: unknown, secrets: readonly string[] = []): readonly string[] {
  const container = containerSchema.parse(given);
  return [
    ...privileges(name, container),
    ...limits(name, container),
    ...reach(container),
    ...leaks(container, secrets),
  ];
}

function privileges(name: string, container: Container): string[] {
  const { user, readOnly, privileged, capabilities, securityOpts } = container;
  const found: string[] = [];
  if (!NEEDS_ITS_OWN_USER.has(name)) {
    if (user === undefined || /^(0|root)(:|$)/.test(user)) found.push("runs as root");
    if (readOnly !== true) found.push("can write to its root file system");
  }
  if (privileged === true) found.push("is privileged");
  if (capabilities?.drops?.includes("ALL") !== true) found.push("keeps capabilities");
  if ((capabilities?.adds ?? []).length > 0) found.push("has capabilities added");
  if (securityOpts?.includes("no-new-privileges:true") !== true) found.push("can gain privileges");
  return found;
}

function limits(name: string, { memory, ulimits, healthcheck, logOpts, tmpfs }: Container): string[] {
  const found: string[] = [];
  if (!MAY_TAKE_ALL_MEMORY.has(name) && (memory ?? 0) <= 0) found.push("has no memory limit");
  if (ulimits?.some(({ name: limit, hard }) => limit === "nproc" && hard > 0) !== true)
    found.push("has no limit of processes");
  if (healthcheck === undefined || healthcheck.tests.length < 2 || healthcheck.tests[0] === "NONE") {
    found.push("has no health check");
  }
  if (logOpts?.["max-size"] === undefined || logOpts["max-file"] === undefined) found.push("does not rotate its logs");
  for (const [path, options] of Object.entries(tmpfs ?? {})) {
    if (!/\bnosuid\b/.test(options) || !/\bnodev\b/.test(options) || !/\bsize=\d/.test(options)) {
      found.push(`has a tmpfs without nosuid, nodev or size: ${path}`);
    }
  }
  return found;
}

function reach({ ports, networkMode, pidMode, ipcMode, mounts }: Container): string[] {
  const open = (ports ?? []).filter(({ ip }) => ip !== "127.0.0.1");
  const found = open.map(({ external }) => `offers port ${external} beyond the loopback address`);
  if (networkMode === "host") found.push("shares the machine's network");
  if (pidMode === "host" || ipcMode === "host") found.push("shares the machine's processes or memory");
  for (const { type, source, target, readOnly } of mounts ?? []) {
    if (type === "bind" && !readOnly) found.push(`can write to this machine's ${source}`);
    if (source.endsWith("docker.sock")) found.push(`holds the engine's socket at ${target}`);
  }
  return found;
}

/** What `docker inspect` shows to whoever may use the engine. */
function leaks({ envs, command, labels }: Container, secrets: readonly string[]): string[] {
  const shown = [...(envs ?? []), ...(command ?? []), ...(labels ?? []).map(({ label, value }) => `${label}=${value}`)];
  return shown.flatMap((text) => {
    const [key = "", value = ""] = text.includes("=") ? text.split(/=(.*)/s) : ["", text];
    const named = /(token|password|passphrase|secret|api_?key)$/i.test(key) && value !== "";
    const known = secrets.some((secret) => text.includes(secret));
    return named || known ? [`shows a secret: ${key === "" ? "an argument" : key}`] : [];
  });
}
