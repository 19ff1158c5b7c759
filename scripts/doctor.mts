import { formatChecks } from "./lib/doctor/check.ts";
import { type Examination, examine } from "./lib/doctor/examine.ts";
import { mend } from "./lib/doctor/fixes.ts";
import { formatSettings, settingRows } from "./lib/doctor/settings-table.ts";
import { EXIT, runCommand } from "./lib/errors.ts";
import { parseCommand } from "./lib/options.ts";

const SPEC = {
  name: "doctor",
  summary:
    "Checks what a stack stands on: driver, engine, Pulumi, disk, memory, network, ports, left-overs and services; prints\neach setting with its value and where it came from. Ends with 0 where nothing is ✗.",
  options: { fix: { type: "boolean", help: "mends what it can, and says so" } },
  json: true,
} as const;

await runCommand(async () => {
  const options = parseCommand(SPEC);
  let found = await examine(options.stack);
  let fixed: readonly string[] = [];
  if (options.flag("fix") && found.inputs !== undefined) {
    fixed = await mend(found.checks, found.inputs);
    if (fixed.length > 0) found = await examine(options.stack);
  }
  const well = found.checks.every(({ status }) => status !== "fail");
  console.log(options.json ? asJson(options.stack, found, fixed, well) : asText(found, fixed));
  if (!well) process.exitCode = EXIT.machine;
});

function asText({ checks, inputs }: Examination, fixed: readonly string[]): string {
  return [
    formatChecks(checks),
    ...(fixed.length === 0 ? [] : ["", ...fixed.map((what) => `mended: ${what}`)]),
    ...(inputs === undefined ? [] : ["", formatSettings(settingRows(inputs))]),
  ].join("\n");
}

function asJson(stack: string, { checks, inputs }: Examination, fixed: readonly string[], well: boolean): string {
  const settings = inputs === undefined ? [] : settingRows(inputs);
  const plain = checks.map(({ name, status, said, remedy }) => ({ name, status, said, remedy: remedy ?? null }));
  return JSON.stringify({ stack, ok: well, checks: plain, fixed, settings }, null, 2);
}
