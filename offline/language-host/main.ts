import { runPlugin, servePlugin } from "../rpc/serve.ts";
import { languageRuntime, languageRuntimeService } from "./host.ts";
import { killPrograms } from "./program.ts";

/** The version of the CLI, set when this file is bundled. */
declare const PULUMI_VERSION: string;

const words = process.argv.slice(2).filter((word) => !word.startsWith("-"));

if (process.argv.includes("--version") || process.argv.includes("-version")) {
  process.stdout.write(`${PULUMI_VERSION}\n`);
} else {
  const runtime = languageRuntime({ version: PULUMI_VERSION, engine: words.at(-1) ?? "" });
  runPlugin(() => servePlugin((server) => server.addService(languageRuntimeService, runtime), killPrograms));
}
