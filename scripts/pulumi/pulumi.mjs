#!/usr/bin/env node
// `npx pulumi …`: the Pulumi CLI that set-up installed, with the project's home, state and passphrase.
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { PASSPHRASE_FILE, PROJECT_DIR, PULUMI_ROOT, pulumiEnvironment } from "./environment.mjs";
import { stackToMake } from "./stack-to-make.mjs";

const program = join(PULUMI_ROOT, "bin", "pulumi");
const environment = pulumiEnvironment(process.env);

if (
  !existsSync(program) ||
  (environment.PULUMI_CONFIG_PASSPHRASE_FILE === PASSPHRASE_FILE && !existsSync(PASSPHRASE_FILE))
) {
  console.error("pulumi: this clone is not set up yet\n  → npm start");
  process.exit(1);
}

const env = { ...process.env, ...environment };
const fresh = stackToMake(process.argv.slice(2), PROJECT_DIR, process.env);
if (fresh !== undefined) {
  console.error(`the stack ${fresh} has no state here yet: pulumi stack init ${fresh}`);
  const made = spawnSync(program, ["stack", "init", fresh, "--no-select", "--cwd", PROJECT_DIR], {
    stdio: ["inherit", "ignore", "inherit"],
    env,
  });
  if (made.status !== 0) process.exit(made.status ?? 1);
}

const child = spawn(program, process.argv.slice(2), { stdio: "inherit", env });
// The terminal sends its signals to both; the CLI decides when to end.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"])
  process.on(signal, () => signal !== "SIGINT" && child.kill(signal));
child.on("error", (error) => {
  console.error(`pulumi: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => process.exit(code ?? (signal === "SIGINT" ? 130 : 1)));
