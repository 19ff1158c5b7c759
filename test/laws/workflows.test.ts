import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { z } from "zod";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";

const permissions = z.record(z.string(), z.enum(["read", "write", "none"]));

const stepSchema = z.strictObject({
  name: z.string().optional(),
  if: z.string().optional(),
  uses: z.string().optional(),
  run: z.string().optional(),
  with: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional(),
  env: z.record(z.string(), z.string()).optional(),
});

/** What a workflow of ours has: rights for each job and none above, a time limit, steps. */
const workflowSchema = z.strictObject({
  name: z.string(),
  on: z.record(z.string(), z.unknown()),
  permissions: z.strictObject({}),
  concurrency: z.strictObject({ group: z.string(), "cancel-in-progress": z.boolean() }),
  jobs: z.record(
    z.string(),
    z.strictObject({
      if: z.string().optional(),
      "runs-on": z.literal("ubuntu-24.04"),
      "timeout-minutes": z.number().max(60),
      environment: z.string().optional(),
      permissions,
      env: z.record(z.string(), z.string()).optional(),
      steps: z.array(stepSchema).min(1),
    }),
  ),
});

const FOLDER = join(PROJECT_DIR, ".github", "workflows");
const text = (file: string) => readFileSync(join(FOLDER, file), "utf8");
const read = (source: string) => workflowSchema.parse(parse(source));
const files = readdirSync(FOLDER).sort();

/** Why a workflow is not safe to run on what strangers send; empty where it is. */
function dangers(source: string): readonly string[] {
  const workflow = read(source);
  const jobs = Object.values(workflow.jobs);
  const steps = jobs.flatMap((job) => job.steps);
  const found: string[] = [];
  if ("pull_request_target" in workflow.on) found.push("pull_request_target runs a stranger's change with our rights");
  for (const { uses, run, with: given } of steps) {
    if (uses !== undefined && !/^[\w.-]+\/[\w./-]+@[0-9a-f]{40}$/.test(uses))
      found.push(`${uses} is not pinned by a commit`);
    if (run?.includes("${{") === true) found.push(`an expression stands in a script: ${run}`);
    if (uses?.startsWith("actions/checkout@") === true) {
      if (given?.["persist-credentials"] !== false) found.push("a checkout leaves its token in the clone");
      if ("workflow_run" in workflow.on && given?.ref !== undefined)
        found.push("foreign code is checked out with our rights");
    }
  }
  if ("pull_request" in workflow.on) {
    if (/\bsecrets[.[]/.test(source)) found.push("a secret goes to a pull request's code");
    for (const job of jobs) {
      const writes = Object.entries(job.permissions).filter(
        ([name, right]) => right === "write" && name !== "id-token",
      );
      if (writes.length > 0) found.push(`a pull request's code may write: ${writes.map(([name]) => name).join(", ")}`);
    }
  }
  if (/credentials_json/.test(source)) found.push("a stored key of Google Cloud");
  return found;
}

test("there are the four workflows", () => {
  expect(files).toEqual(["ci.yml", "deploy.yml", "preview-comment.yml", "preview.yml"]);
});

describe.each(files)("%s", (file) => {
  test("is a workflow as ours are, and safe", () => {
    expect(dangers(text(file))).toEqual([]);
  });

  test("says the version beside each pinned commit", () => {
    const uses = text(file)
      .split("\n")
      .filter((line) => /^\s*- uses:/.test(line));
    expect(uses.filter((line) => !/@[0-9a-f]{40} # v\d+/.test(line))).toEqual([]);
  });
});

describe("each has a job", () => {
  const scripts = (file: string) =>
    Object.values(read(text(file)).jobs).flatMap((job) => job.steps.flatMap(({ run }) => run ?? []));

  test("ci runs all tests", () => {
    expect(scripts("ci.yml")).toEqual(["npm test"]);
  });

  test("preview writes the comment and posts nothing", () => {
    const written = scripts("preview.yml").join("\n");
    expect(written).toMatch(/npm run --silent preview -- --markdown .* --json/);
    expect(written).not.toContain("--post");
    expect(read(text("preview.yml")).jobs.preview?.permissions).toEqual({ contents: "read", "id-token": "write" });
  });

  test("Google Cloud is asked only on this repository's own branches", () => {
    const auth = read(text("preview.yml")).jobs.preview?.steps.find(({ uses }) =>
      uses?.startsWith("google-github-actions"),
    );
    expect(auth?.if).toContain("env.OWN_BRANCH == 'true'");
  });

  test("the comment is posted on what preview found, for the commit that it saw", () => {
    const workflow = read(text("preview-comment.yml"));
    expect(workflow.on).toEqual({
      workflow_run: { workflows: [read(text("preview.yml")).name], types: ["completed"] },
    });
    expect(workflow.jobs.comment?.permissions).toEqual({ actions: "read", contents: "read", "pull-requests": "write" });
    expect(scripts("preview-comment.yml").join("\n")).toMatch(/--post .* --pull-request "\$number" --head "\$HEAD"/);
  });

  test("deploy waits for an approval, and is held to the rules before it changes anything", () => {
    expect(read(text("deploy.yml")).jobs.deploy?.environment).toBe("production");
    const [push, preview, up] = scripts("deploy.yml");
    // Without it the image that `pulumi up` builds is refused by the registry.
    expect(push).toBe('gcloud auth configure-docker "$REGISTRY" --quiet');
    expect(preview).toBe('npm run preview -- "$STACK"');
    expect(up).toMatch(/^npx pulumi up --yes .*--stack "\$STACK"$/);
  });
});

describe("the search for dangers", () => {
  const preview = text("preview.yml");
  test.each([
    ["pull_request_target", preview.replace("  pull_request:\n", "  pull_request_target:\n")],
    ["not pinned", preview.replace(/actions\/checkout@\S+/, "actions/checkout@v4")],
    ["in a script", preview.replace('"$NUMBER"', `"\${{ github.event.pull_request.title }}"`)],
    ["leaves its token", preview.replace("persist-credentials: false", "fetch-depth: 1")],
    ["a secret goes", preview.replace("vars.PULUMI_BACKEND_URL }}", "secrets.BACKEND }}")],
    ["may write: pull-requests", preview.replace("      id-token: write\n", "      pull-requests: write\n")],
    ["stored key", preview.replace("service_account:", "credentials_json:")],
    [
      "foreign code",
      text("preview-comment.yml").replace("persist-credentials: false", "persist-credentials: false\n          ref: x"),
    ],
  ])("finds: %s", (danger, source) => {
    expect(dangers(source).join("\n")).toContain(danger);
  });

  test("rejects rights for a whole workflow", () => {
    expect(() => read(preview.replace("permissions: {}", "permissions: write-all"))).toThrow();
  });
});
