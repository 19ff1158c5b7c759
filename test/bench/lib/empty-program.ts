import { cpSync, mkdirSync, mkdtempSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PROJECT_DIR } from "../../../scripts/lib/project.ts";

/** The least that the same runtime can run, in a folder of its own. */
export function makeEmptyProgram(): string {
  const folder = mkdtempSync(join(tmpdir(), "tunestack-empty-"));
  symlinkSync(join(PROJECT_DIR, "node_modules"), join(folder, "node_modules"));
  mkdirSync(join(folder, "state"));
  cpSync(join(PROJECT_DIR, "tsconfig.json"), join(folder, "tsconfig.json"));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ name: "empty", type: "module", main: "index.ts" }));
  writeFileSync(join(folder, "index.ts"), "export {};\n");
  writeFileSync(
    join(folder, "Pulumi.yaml"),
    [
      "name: empty",
      "runtime:",
      "  name: nodejs",
      "  options:",
      "    typescript: false",
      '    nodeargs: "--import tsx"',
      "main: index.ts",
      "backend:",
      "  url: file://./state",
      "",
    ].join("\n"),
  );
  return folder;
}
