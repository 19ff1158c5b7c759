// Plain JavaScript: runs before any package is installed.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const PROJECT_DIR = dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url)))));
/** Holds the hash of the lock file that node_modules was installed by, so that a half-done install is done again. */
const STAMP = join(PROJECT_DIR, "node_modules", ".tunestack-lock");
const LEAST_NODE = 20;
/** How long npm may take to end when it is interrupted; busy with its disk it was seen to take minutes. */
const GRACE_MS = 5000;
/** Halves the start of every command. */
const LAZY = join(PROJECT_DIR, "scripts", "pulumi", "lazy-libraries.cjs");

/**
 * Installs the npm packages by the lock where they are not the lock's.
 * @returns a function that runs a TypeScript file of the project and gives its exit code.
 */
export async function installPackages() {
  const major = Number(process.versions.node.split(".")[0]);
  if (major < LEAST_NODE) {
    fail(`Node ${process.versions.node} is too old`, `install Node ${LEAST_NODE} or later: https://nodejs.org`);
  }
  const lock = createHash("sha256")
    .update(readFileSync(join(PROJECT_DIR, "package-lock.json")))
    .digest("hex");
  if (!existsSync(STAMP) || readFileSync(STAMP, "utf8") !== lock) {
    const started = Date.now();
    console.error("… npm packages");
    const npm = await capture("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
    if (npm.interrupted) {
      console.error("✗ interrupted; the same command does it again");
      process.exit(130);
    }
    if (npm.code !== 0) {
      fail(
        `npm ci ended with exit code ${npm.code}:\n${npm.output.trim()}`,
        "check the network and npm's registry setting, then type the same command again",
      );
    }
    writeFileSync(STAMP, lock);
    console.error(
      `✓ ${"npm packages".padEnd(24)} installed by the lock (${Math.round((Date.now() - started) / 1000)} s)`,
    );
  }
  return { run: runTypeScript };
}

function runTypeScript(file, args) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["--require", LAZY, "--import", "tsx", join(PROJECT_DIR, file), ...args], {
      stdio: "inherit",
      cwd: PROJECT_DIR,
    });
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
      process.on(signal, () => signal !== "SIGINT" && child.kill(signal));
    }
    child.on("exit", (code, signal) => resolve(code ?? (signal === "SIGINT" ? 130 : 1)));
  });
}

/**
 * Runs a program to its end, also when it is interrupted: npm goes on after a Ctrl-C, and what is typed next would find it
 * at work.
 */
function capture(program, args) {
  return new Promise((resolve) => {
    let interrupted = false;
    let child;
    // Before it is started: it would be at work by the time that a busy machine comes to the next line.
    process.on("SIGINT", () => {
      interrupted = true;
      child?.kill("SIGTERM");
      setTimeout(() => child?.kill("SIGKILL"), GRACE_MS).unref();
    });
    child = spawn(program, args, { cwd: PROJECT_DIR, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    child.stdout.on("data", (data) => (output += data));
    child.stderr.on("data", (data) => (output += data));
    child.on("error", (error) => resolve({ code: 127, output: error.message, interrupted }));
    child.on("close", (code) => resolve({ code, output, interrupted }));
  });
}

function fail(reason, remedy) {
  console.error(`✗ ${reason}\n  → ${remedy}`);
  process.exit(3);
}
