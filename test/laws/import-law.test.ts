import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";

/** A project in small: file → what it imports. `type ` stands before an import of types alone. */
const FILES: Readonly<Record<string, readonly string[]>> = {
  "stacks/settings/good.ts": [],
  "stacks/settings/reads-plan.ts": ["../plan/good.ts"],
  "stacks/settings/uses-pulumi.ts": ["@pulumi/pulumi"],
  "stacks/plan/good.ts": ["../settings/good.ts"],
  "stacks/plan/reads-target.ts": ["../targets/docker/render.ts"],
  "stacks/plan/reads-outputs.ts": ["../outputs.ts"],
  "stacks/plan/uses-pulumi.ts": ["type @pulumi/pulumi"],
  "stacks/plan/circle-a.ts": ["./circle-b.ts"],
  "stacks/plan/circle-b.ts": ["type ./circle-a.ts"],
  "stacks/plan/leads-nowhere.ts": ["./absent.ts"],
  "stacks/outputs.ts": ["type ./plan/good.ts"],
  "stacks/image/image.ts": ["@pulumi/pulumi", "../plan/good.ts"],
  "stacks/image/reads-target.ts": ["../targets/docker/render.ts"],
  "stacks/targets/docker/render.ts": ["type @pulumi/pulumi", "../../plan/good.ts"],
  "stacks/targets/docker/stack.ts": ["@pulumi/pulumi", "./render.ts", "../../image/image.ts"],
  "stacks/targets/docker/engine.ts": ["./render.ts"],
  "stacks/targets/other/render.ts": ["@pulumi/pulumi", "./stack.ts"],
  "stacks/targets/other/stack.ts": ["../../../scripts/good.ts"],
  "stacks/targets/last/stack.ts": ["../../../index.ts"],
  "index.ts": ["./stacks/targets/docker/stack.ts", "./stacks/settings/good.ts"],
  "scripts/good.ts": [
    ...["../stacks/settings/good.ts", "../stacks/plan/good.ts", "../stacks/outputs.ts"],
    ...["../stacks/targets/docker/engine.ts", "../stacks/targets/docker/render.ts", "../offline/good.ts"],
  ],
  "scripts/reads-stack.ts": ["../stacks/targets/docker/stack.ts"],
  "scripts/reads-image.ts": ["../stacks/image/image.ts"],
  "scripts/reads-test.ts": ["../test/good.ts"],
  "offline/good.ts": [],
  "offline/reads-settings.ts": ["../stacks/settings/good.ts"],
  "offline/reads-scripts.ts": ["../scripts/good.ts"],
  "test/good.ts": ["../index.ts", "../scripts/good.ts"],
};

/** Every rule rejects something, and nothing else of the project in small is rejected. */
const REJECTED = [
  "k8s-below-targets: stacks/image/reads-target.ts",
  "no-cycles: stacks/plan/circle-a.ts",
  "no-test-code: scripts/reads-test.ts",
  "nothing-imports-the-program: stacks/targets/last/stack.ts",
  "offline-stands-alone: offline/reads-scripts.ts",
  "offline-stands-alone: offline/reads-settings.ts",
  "plain-data: stacks/plan/uses-pulumi.ts",
  "plain-data: stacks/settings/uses-pulumi.ts",
  "plan-before-targets: stacks/plan/reads-outputs.ts",
  "plan-before-targets: stacks/plan/reads-target.ts",
  "pure-render-component: stacks/targets/other/render.ts",
  "pure-render-pulumi: stacks/targets/other/render.ts",
  "resolvable: stacks/plan/leads-nowhere.ts",
  "scripts-read-outputs: scripts/reads-image.ts",
  "scripts-read-outputs: scripts/reads-stack.ts",
  "settings-first: stacks/settings/reads-plan.ts",
  "stack-without-scripts: stacks/targets/other/stack.ts",
];

const cruisedSchema = z.object({
  summary: z.object({
    totalCruised: z.int(),
    violations: z.array(z.object({ from: z.string(), rule: z.object({ name: z.string() }) })),
    ruleSetUsed: z.object({ forbidden: z.array(z.object({ name: z.string() })) }),
  }),
});

let folder: string;
let summary: z.output<typeof cruisedSchema>["summary"];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "tunestack-imports-"));
  for (const [file, imports] of Object.entries(FILES)) {
    const path = join(folder, file);
    mkdirSync(dirname(path), { recursive: true });
    const lines = imports.map((from, index) =>
      from.startsWith("type ")
        ? `import type * as t${index} from "${from.slice("type ".length)}";\nexport type T${index} = typeof t${index};`
        : `import * as m${index} from "${from}";\nexport const v${index} = m${index};`,
    );
    writeFileSync(path, `${[...lines, "export const own = 1;"].join("\n")}\n`);
  }
  copyFileSync(join(PROJECT_DIR, "tsconfig.json"), join(folder, "tsconfig.json"));
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  symlinkSync(join(PROJECT_DIR, "node_modules"), join(folder, "node_modules"));
  const cruise = [
    join(PROJECT_DIR, "node_modules/dependency-cruiser/bin/dependency-cruise.mjs"),
    ...["--config", join(PROJECT_DIR, ".dependency-cruiser.mjs"), "--output-type", "json"],
    ...["index.ts", "stacks", "scripts", "offline", "test"],
  ];
  const json = execFileSync(process.execPath, cruise, {
    cwd: folder,
    encoding: "utf8",
    maxBuffer: 64 * 2 ** 20,
  });
  summary = cruisedSchema.parse(JSON.parse(json)).summary;
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("the import law", () => {
  test("rejects these imports and no others", () => {
    expect(summary.violations.map(({ from, rule }) => `${rule.name}: ${from}`).sort()).toEqual(REJECTED);
  });

  test("each rule is shown to reject something", () => {
    const shown = new Set(REJECTED.map((text) => text.split(":")[0]));
    expect(summary.ruleSetUsed.forbidden.map(({ name }) => name).sort()).toEqual([...shown].sort());
  });
});
