import { execFile } from "node:child_process";
import { afterEach, expect, test } from "vitest";
import { z } from "zod";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { writeSecret } from "../../scripts/lib/setup/secrets.ts";
import { EXAMPLE_TARGETS, exampleSettings, UNPRICED } from "../lib/examples.ts";
import { freshStack, type TestStack } from "./test-stack.ts";

let stack: TestStack | undefined;
afterEach(async () => await stack?.remove());

/** A login that is none: a preview asks Google nothing. */
const MADE_UP = { GOOGLE_OAUTH_ACCESS_TOKEN: "made-up" };

const previewSchema = z.object({
  stacks: z.tuple([
    z.object({
      failed: z.literal(false),
      counts: z.object({ create: z.number(), update: z.literal(0), replace: z.literal(0), delete: z.literal(0) }),
      violations: z.array(z.unknown()).max(0),
      changes: z.array(z.object({ name: z.string(), type: z.string() })),
      cost_per_hour: z.object({ after: z.object({ standard: z.number(), unpriced: z.array(z.string()) }) }),
    }),
  ]),
});

async function preview(name: string) {
  const output = await new Promise<string>((resolve) => {
    const options = { cwd: PROJECT_DIR, env: { ...process.env, ...MADE_UP }, maxBuffer: 2 ** 26 };
    execFile("npm", ["run", "--silent", "preview", "--", name, "--json"], options, (_error, stdout) => resolve(stdout));
  });
  return previewSchema.parse(JSON.parse(output)).stacks[0];
}

/** A resource that only the stack of this target has, and whether something is rented. */
const PECULIAR: Readonly<Record<string, { readonly resource: string; readonly rented: boolean }>> = {
  docker: { resource: "tunestack-training-checkpoints", rented: false },
  "gcp-vm": { resource: "tunestack-template", rented: true },
  kubernetes: { resource: "tunestack-cluster-run", rented: false },
  gke: { resource: "tunestack-gke-pool-a100-40-standard-3g-20gb", rented: true },
};

test.each(EXAMPLE_TARGETS)("the example for %s is previewed by Pulumi itself", async (target) => {
  // An engine of the tests has no GPU to offer, another model to train on it, and other services at the usual ports.
  const onEngine = target === "docker";
  const here = onEngine ? { accelerator: "cpu", training: { run: "desk-notes", preset: "rehearsal" } } : {};
  stack = await freshStack(`test-example-${target}`, {
    docker: undefined,
    ...(onEngine ? {} : { services: undefined }),
    ...exampleSettings(target),
    ...here,
  });
  writeSecret(stack.name, "hf-token", "made-up");
  const { counts, changes, cost_per_hour } = await preview(stack.name);
  expect(counts.create).toBe(changes.length);
  expect(changes.map(({ name }) => name)).toContain(PECULIAR[target]?.resource);
  expect(cost_per_hour.after.standard > 0).toBe(PECULIAR[target]?.rented);
  expect([...cost_per_hour.after.unpriced].sort()).toEqual(UNPRICED[target] ?? []);
});
