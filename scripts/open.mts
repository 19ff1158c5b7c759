import { spawn } from "node:child_process";
import { chalk } from "zx";
import { runCommand, usageError } from "./lib/errors.ts";
import { openService } from "./lib/open-service.ts";
import { openWorkloads } from "./lib/open-workloads.ts";
import { parseCommand } from "./lib/options.ts";
import { secretFile } from "./lib/setup/secrets.ts";
import { requireOutputs } from "./lib/stack.ts";

const SPEC = {
  name: "open",
  summary:
    "Opens the page of a service in the browser. Where the stack is on another machine, a tunnel leads there (SSH; Identity-\nAware Proxy for a VM of Google Cloud) until Ctrl-C.",
  operands: { names: "SERVICE", atMost: 1, help: "jupyter, tensorboard, wandb-local or gpu-monitor" },
  options: {
    port: { type: "string", value: "PORT", help: "port of this machine for a tunnel (default: the service's own)" },
    print: { type: "boolean", help: "prints the address and starts no browser" },
  },
  examples: ["npm run open -- tensorboard", "npm run open -- jupyter --stack prod"],
} as const;

await runCommand(async () => {
  const options = parseCommand(SPEC);
  const service = options.operands[0];
  if (service === undefined) {
    throw usageError({
      path: "npm run open",
      reason: "does not say which service",
      remedy: `use one: ${SPEC.operands.help}`,
    });
  }
  const port = portOf(options.text("port"));
  const outputs = await requireOutputs(options.stack);
  const { url, ended } = await openService(await openWorkloads(outputs), outputs, { service, port });
  console.log(url);
  if (service === "jupyter")
    console.error(chalk.dim(`its token stands in ${secretFile(options.stack, "jupyter-token")}`));
  if (!options.flag("print") && process.stdout.isTTY) startBrowser(url);
  if (ended === undefined) return;
  console.error(chalk.dim("Ctrl-C closes the tunnel"));
  const interrupted = new Promise<void>((resolve) => process.once("SIGINT", resolve).once("SIGTERM", resolve));
  await Promise.race([ended, interrupted]);
});

function portOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const port = Number(text);
  if (Number.isInteger(port) && port > 0 && port < 65536) return port;
  throw usageError({ path: "--port", value: text, reason: "is no port", remedy: "write it as --port 8890" });
}

/** A machine without a browser has the address on its terminal. */
function startBrowser(url: string): void {
  const program = process.platform === "darwin" ? "open" : "xdg-open";
  const child = spawn(program, [url], { detached: true, stdio: "ignore" });
  child.on("error", () => undefined);
  child.unref();
}
