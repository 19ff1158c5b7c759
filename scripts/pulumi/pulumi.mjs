#!/usr/bin/env node
// `npx pulumi …`: the Pulumi CLI that set-up installed, with the project's home, state and passphrase.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { PASSPHRASE_FILE, PULUMI_ROOT, pulumiEnvironment } from "./environment.mjs";

const program = join(PULUMI_ROOT, "bin", "pulumi");
const environment = pulumiEnvironment(process.env);

if (
  !existsSync(program) ||
  (environment.PULUMI_CONFIG_PASSPHRASE_FILE === PASSPHRASE_FILE && !existsSync(PASSPHRASE_FILE))
) {
  console.error("pulumi: this clone is not set up yet\n  → npm start");
  process.exit(1);
}

const child = spawn(program, process.argv.slice(2), { stdio: "inherit", env: { ...process.env, ...environment } });
// The terminal sends its signals to both; the CLI decides when to end.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"])
  process.on(signal, () => signal !== "SIGINT" && child.kill(signal));
child.on("error", (error) => {
  console.error(`pulumi: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => process.exit(code ?? (signal === "SIGINT" ? 130 : 1)));
