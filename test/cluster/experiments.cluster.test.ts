import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, inject, onTestFinished, test } from "vitest";
import { z } from "zod";
import type { ConfigMapObject } from "../../k8s/objects.ts";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { renderCluster } from "../lib/kubernetes.ts";
import { Api } from "./lib/api.ts";
import { addPools, gpuPool, POOL_LABEL } from "./lib/nodes.ts";
import { applyAll, isAtWork, POD, podSchema, provideVolumes } from "./lib/stack.ts";
import { EXIT_ANNOTATION } from "./lib/stages.ts";
import { until } from "./lib/until.ts";

/** The runner itself, as the account that the stack gives it, in front of the API server, Kueue and a bare repository. */

const NAME = "experiments";
const BRANCH = "gpu-experiments";
const JOB = { apiVersion: "batch/v1", kind: "Job" };
const SOURCES = join(PROJECT_DIR, "images", "qlora", "src");

const { objects, layout } = renderCluster({
  stack: NAME,
  kubernetes: {
    queue: { pools: [{ gpu: "L4", nodeLabels: { [POOL_LABEL]: NAME }, gpus: 1, cpus: 64, memory: "256GiB" }] },
  },
  settings: { profiles: ["experiments"] },
});

const access = inject("cluster");
const api = new Api(access);
const folder = mkdtempSync(join(tmpdir(), "tunestack-experiments-"));
const server = join(folder, "server.git");
const laptop = join(folder, "laptop");

const noPython = spawnSync("python3", ["-c", "import sys; sys.exit(sys.version_info < (3, 11))"]).status !== 0;

const git = (directory: string, ...args: string[]) =>
  execFileSync("git", args, { cwd: directory, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trimEnd();

const jobSchema = z.object({
  metadata: z.object({ name: z.string(), labels: z.record(z.string(), z.string()) }),
  spec: z.object({ suspend: z.boolean().default(false), activeDeadlineSeconds: z.number() }),
});
const entrySchema = z.object({
  name: z.string(),
  status: z.string().default("pending"),
  attempt: z.looseObject({ number: z.number() }).optional(),
});
const resultsSchema = z.looseObject({ status: z.string(), exit_code: z.number().nullable(), host: z.string() });

beforeAll(async () => {
  await addPools(api, [gpuPool(NAME, 2)]);
  const applied = await applyAll(api, objects);
  expect(applied.flatMap(({ warnings }) => warnings)).toEqual([]);
  await provideVolumes(api, layout.namespace);
  git(folder, "init", "--quiet", "--bare", "server.git");
  git(folder, "clone", "--quiet", "server.git", "laptop");
  git(laptop, "config", "user.name", "me");
  git(laptop, "config", "user.email", "me@host.example");
  git(laptop, "checkout", "--quiet", "-b", BRANCH);
});
afterAll(() => {
  api.close();
  rmSync(folder, { recursive: true, force: true });
});

function push(experiments: readonly object[]): void {
  writeFileSync(join(laptop, "experiments.json"), `${JSON.stringify(experiments, null, 2)}\n`);
  git(laptop, "add", "--all");
  git(laptop, "commit", "--quiet", "--message", "experiments");
  git(laptop, "push", "--quiet", "origin", BRANCH);
}

function entry(name: string) {
  const text = git(server, "show", `${BRANCH}:experiments.json`);
  return z
    .array(entrySchema)
    .parse(JSON.parse(text))
    .find((one) => one.name === name);
}

/** What a pod of the runner's service account finds in its file system. */
async function serviceAccount(): Promise<string> {
  const path = join(folder, "service-account");
  mkdirSync(path);
  const { body } = await api.call(
    "POST",
    `/api/v1/namespaces/${layout.namespace}/serviceaccounts/experiment-runner/token`,
    { apiVersion: "authentication.k8s.io/v1", kind: "TokenRequest", spec: {} },
  );
  const { status } = z.object({ status: z.object({ token: z.string() }) }).parse(body);
  writeFileSync(join(path, "token"), status.token, { mode: 0o600 });
  writeFileSync(join(path, "ca.crt"), access.authority);
  writeFileSync(join(path, "namespace"), layout.namespace);
  return path;
}

function templateFile(): string {
  const map = objects.find(
    (one): one is ConfigMapObject => one.kind === "ConfigMap" && one.metadata.name === "experiment-job",
  );
  const path = join(folder, "job.json");
  writeFileSync(path, String(map?.data?.["job.json"]));
  return path;
}

/** Starts the runner; it ends with the test. */
function startRunner(account: string, template: string) {
  const log = openSync(join(folder, "runner.log"), "a");
  const { hostname, port } = new URL(access.address);
  const runner = spawn(
    "python3",
    [
      ...["-m", "tunestack_train.experiments", "run", `--repository=${server}`, "--name=runner"],
      ...[`--state=${join(folder, "state")}`, `--outputs=${join(folder, "outputs")}`, "--poll=1s", "--lease=30s"],
      ...["--least-free=1MiB", `--job-template=${template}`, "--job-poll=500ms", `--service-account=${account}`],
    ],
    {
      env: {
        ...process.env,
        PYTHONPATH: SOURCES,
        KUBERNETES_SERVICE_HOST: hostname,
        KUBERNETES_SERVICE_PORT: port,
        TUNESTACK_IMAGE_DIGEST: `registry.example.com/ml/training@sha256:${"0".repeat(64)}`,
      },
      stdio: ["ignore", log, log],
    },
  );
  onTestFinished(() => void runner.kill("SIGKILL"));
  return runner;
}

const said = async () => readFileSync(join(folder, "runner.log"), "utf8");

async function jobs() {
  return z.array(jobSchema).parse(await api.list(JOB, layout.namespace));
}

async function podsAtWork() {
  const pods = await api.list(POD, layout.namespace, "app.kubernetes.io/name=experiment");
  return pods.map((one) => podSchema.parse(one)).filter(isAtWork);
}

async function end(pod: string, code: number): Promise<void> {
  const patch = { metadata: { annotations: { [EXIT_ANNOTATION]: String(code) } } };
  await api.merge(POD, pod, layout.namespace, patch);
}

test("experiments wait for quota, run on a node with a GPU, and their ends stand on the branch", async (context) => {
  if (noPython) context.skip("no python3 of version 3.11 or newer: with one, the real runner is run here");
  push([
    { name: "first", command: "echo one", timeout: 600 },
    { name: "second", command: "echo two" },
  ]);
  const account = await serviceAccount();
  const template = templateFile();
  const runner = startRunner(account, template);

  const [pod] = await until(
    "one of the two is at work",
    async () => ((await podsAtWork()).length === 1 ? await podsAtWork() : undefined),
    said,
  );
  expect(pod?.spec.nodeName).toMatch(/^experiments-/);
  expect((await jobs()).map(({ spec }) => spec.suspend).sort()).toEqual([false, true]);
  expect([entry("first")?.status, entry("second")?.status]).toEqual(["running", "running"]);

  // The runner dies; its jobs do not, and neither is started a second time.
  const before = (await jobs()).map(({ metadata }) => metadata.name).sort();
  runner.kill("SIGKILL");
  startRunner(account, template);
  await until("it takes both up again", async () =>
    (await said()).match(/taken up again \(attempt 1\)/g)?.length === 2 ? true : undefined,
  );
  expect((await jobs()).map(({ metadata }) => metadata.name).sort()).toEqual(before);

  await end(pod?.metadata.name ?? "", 0);
  const [other] = await until(
    "the other one is at work",
    async () => {
      const pods = (await podsAtWork()).filter(({ metadata }) => metadata.name !== pod?.metadata.name);
      return pods.length === 1 ? pods : undefined;
    },
    said,
  );
  await end(other?.metadata.name ?? "", 3);
  await until(
    "both have ended",
    async () => {
      const states = [entry("first")?.status, entry("second")?.status].sort();
      return states.join() === "completed,failed" ? true : undefined;
    },
    said,
  );
  expect([entry("first")?.attempt?.number, entry("second")?.attempt?.number]).toEqual([1, 1]);
  const failed = entry("first")?.status === "failed" ? "first" : "second";
  const results = resultsSchema.parse(
    JSON.parse(git(server, "show", `${BRANCH}:experiment-results/${failed}/results.json`)),
  );
  expect(results).toMatchObject({ status: "failed", exit_code: 3, host: other?.spec.nodeName });
  expect(git(server, "for-each-ref", "refs/tunestack/claims/")).toBe("");

  // Cancelled while it runs: the job goes, and with it its place.
  git(laptop, "pull", "--quiet", "--rebase", "origin", BRANCH);
  push([{ name: "third", command: "sleep 600" }]);
  await until("the third is at work", async () => ((await podsAtWork()).length === 1 ? true : undefined), said);
  git(laptop, "pull", "--quiet", "--rebase", "origin", BRANCH);
  const text = readFileSync(join(laptop, "experiments.json"), "utf8");
  push((JSON.parse(text) as object[]).map((one) => ({ ...one, status: "cancelled" })));
  await until(
    "its job is gone",
    async () => ((await jobs()).every(({ metadata }) => !metadata.name.startsWith("third-")) ? true : undefined),
    said,
  );
  expect(await podsAtWork()).toEqual([]);
  expect(entry("third")?.status).toBe("cancelled");
});

test("the runner's account may have jobs in its namespace, and nothing else", async () => {
  const may = async (verb: string, resource: string, group: string, namespace = layout.namespace, subresource = "") => {
    const { body } = await api.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {
      apiVersion: "authorization.k8s.io/v1",
      kind: "SubjectAccessReview",
      spec: {
        user: `system:serviceaccount:${layout.namespace}:experiment-runner`,
        groups: ["system:serviceaccounts", `system:serviceaccounts:${layout.namespace}`, "system:authenticated"],
        resourceAttributes: { verb, resource, group, namespace, subresource },
      },
    });
    return z.object({ status: z.object({ allowed: z.boolean() }) }).parse(body).status.allowed;
  };
  for (const verb of ["create", "delete", "list", "patch"]) expect(await may(verb, "jobs", "batch")).toBe(true);
  expect(await may("get", "pods", "", layout.namespace, "log")).toBe(true);
  expect(await may("create", "jobs", "batch", "default")).toBe(false);
  expect(await may("get", "secrets", "")).toBe(false);
  expect(await may("create", "pods", "")).toBe(false);
  expect(await may("create", "pods", "", layout.namespace, "exec")).toBe(false);
  expect(await may("delete", "pods", "")).toBe(false);
});
