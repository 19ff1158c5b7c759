import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { z } from "zod";
import { objectsText } from "../../k8s/render.ts";
import { renderCluster } from "../lib/kubernetes.ts";
import { ACCEPTED } from "./lib/accepted-findings.ts";
import { Api, type KubernetesObject } from "./lib/api.ts";
import { SCHEMA_FILES, writeSchemas } from "./lib/schemas.ts";
import { plain } from "./lib/stack.ts";

/** What is rendered, judged by kubeconform and kube-score: as files, as somebody would who has no cluster. */

const api = new Api(inject("cluster"));
const { kubeconform, kubeScore } = inject("checkers");
const folder = mkdtempSync(join(tmpdir(), "tunestack-checkers-"));
afterAll(() => {
  api.close();
  rmSync(folder, { recursive: true, force: true });
});

const kubernetes = {
  run: { nodes: 2 },
  queue: { cohort: "research", pools: [{ gpu: "L4" }] },
  metricsFrom: "monitoring",
};
const { objects } = renderCluster({ kubernetes });
const text = objectsText(objects);

/** What a program says of objects on its standard input. */
async function judged(program: string, args: readonly string[], input: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    const child = execFile(program, args, { maxBuffer: 64 * 2 ** 20 }, (error, stdout, stderr) => {
      // They end with 1 where they find something.
      if (error !== null && (error.code !== 1 || stdout === "")) reject(new Error(`${error.message}\n${stderr}`));
      else resolve(stdout);
    });
    child.stdin?.end(input);
  });
}

describe("kubeconform", () => {
  const answer = z.object({
    resources: z.array(z.object({ kind: z.string(), name: z.string(), status: z.string(), msg: z.string() })),
    summary: z.object({ valid: z.int(), invalid: z.int(), errors: z.int(), skipped: z.int() }),
  });
  const conform = async (input: string) => {
    const args = [
      "-strict",
      "-summary",
      "-verbose",
      "-output",
      "json",
      "-schema-location",
      join(folder, SCHEMA_FILES),
      "-",
    ];
    return answer.parse(JSON.parse(await judged(kubeconform, args, input)));
  };

  beforeAll(async () => await writeSchemas(api, objects, folder));

  test("finds every object valid, by the schemas that the API server tells", async () => {
    const { resources, summary } = await conform(text);
    expect(resources.filter(({ status }) => status !== "statusValid")).toEqual([]);
    expect(summary).toEqual({ valid: objects.length, invalid: 0, errors: 0, skipped: 0 });
  });

  test.each([
    ["a field that a JobSet does not have", "JobSet", /completionMode: /, "completionMood: "],
    ["a field that a pod does not have", "Deployment", /enableServiceLinks: /, "enableServiceLink: "],
    ["a number where there should be a text", "ClusterQueue", /queueingStrategy: .*/, "queueingStrategy: 1"],
    [
      "a word that is none of those that can be",
      "ClusterQueue",
      /withinClusterQueue: .*/,
      "withinClusterQueue: Perhaps",
    ],
  ])("finds %s", async (_title, kind, part, wrong) => {
    const one = objectsText(objects.filter((object) => object.kind === kind).slice(0, 1));
    const changed = one.replace(part, wrong);
    expect(changed).not.toBe(one);
    expect((await conform(changed)).resources).toMatchObject([{ kind, status: "statusInvalid" }]);
  });
});

describe("kube-score", () => {
  const CRITICAL = 1;
  const answer = z.array(
    z.object({
      type_meta: z.object({ kind: z.string() }),
      object_meta: z.object({ name: z.string() }),
      checks: z.array(
        z.object({
          check: z.object({ id: z.string() }),
          grade: z.int(),
          skipped: z.boolean(),
          comments: z.array(z.object({ path: z.string(), summary: z.string() })).nullable(),
        }),
      ),
    }),
  );

  /** Critical findings, as the check and the object. */
  const critical = async (of: readonly object[]) => {
    const args = ["score", "--output-format", "json", "--kubernetes-version", "v1.35", "-"];
    const scored = answer.parse(JSON.parse(await judged(kubeScore, args, objectsText(of as typeof objects))));
    return scored.flatMap(({ type_meta, object_meta, checks }) =>
      checks
        .filter(({ grade, skipped }) => grade === CRITICAL && !skipped)
        .map(({ check, comments }) => ({
          check: check.id,
          object: `${type_meta.kind} ${object_meta.name}`,
          comments: (comments ?? []).map(({ path, summary }) => `${path}: ${summary}`),
        })),
    );
  };
  const isAccepted = ({ check, object }: { readonly check: string; readonly object: string }) =>
    ACCEPTED.some((one) => one.check === check && (one.objects === "all" || one.objects.includes(object)));

  /** kube-score knows no JobSet; the Job that JobSet makes of one it does. */
  const scoredObjects = objects.flatMap((object) => (object.kind === "JobSet" ? jobsOf(plain(object)) : [object]));

  test("has no critical finding that is not accepted for a reason", async () => {
    const found = await critical(scoredObjects);
    expect(found.filter((one) => !isAccepted(one))).toEqual([]);
    const unneeded = ACCEPTED.flatMap(({ check, objects: of }) =>
      (of === "all" ? ["all"] : of)
        .filter((object) => !found.some((one) => one.check === check && (of === "all" || one.object === object)))
        .map((object) => `${check} of ${object}`),
    );
    expect(unneeded, "accepted, and not found").toEqual([]);
  });

  test("finds what is made worse", async () => {
    const isJupyter = ({ kind, metadata }: (typeof objects)[number]) =>
      kind === "Deployment" && metadata.name === "jupyter";
    const worse = JSON.parse(
      JSON.stringify(objects.filter(isJupyter))
        .replace('"readOnlyRootFilesystem":true', '"readOnlyRootFilesystem":false')
        .replace(/"limits":\{[^}]*\}/, '"limits":{}'),
    ) as readonly object[];
    const found = (await critical(worse)).map(({ check }) => check);
    expect(found).toContain("container-security-context-readonlyrootfilesystem");
    expect(found).toContain("container-resources");
  });
});

const jobSetSchema = z.object({
  spec: z.object({ replicatedJobs: z.array(z.object({ name: z.string(), template: z.looseObject({}) })) }),
});

function jobsOf(jobSet: KubernetesObject): readonly object[] {
  return jobSetSchema.parse(jobSet).spec.replicatedJobs.map(({ name, template }) => ({
    apiVersion: "batch/v1",
    kind: "Job",
    ...template,
    metadata: { name: `${jobSet.metadata.name}-${name}-0`, namespace: jobSet.metadata.namespace },
  }));
}
