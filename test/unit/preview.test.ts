import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { EngineEvent } from "@pulumi/pulumi/automation/index.js";
import { describe, expect, test } from "vitest";
import { violations } from "../../policy/index.ts";
import { readChanges, readErrors } from "../../scripts/lib/preview/changes.ts";
import { consequenceOf } from "../../scripts/lib/preview/consequences.ts";
import { costLine, costOf } from "../../scripts/lib/preview/cost.ts";
import { type Live, NO_RUN } from "../../scripts/lib/preview/live.ts";
import { asJson, asMarkdown, type FinishedPreview } from "../../scripts/lib/preview/report.ts";
import { showInput, valueAt } from "../../scripts/lib/preview/values.ts";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";

/** Events of a real preview: `change` of a port and a memory limit, `prefix` of all names, `delete` of a service. */
function recorded(name: string): readonly EngineEvent[] {
  const file = join(PROJECT_DIR, "test", "unit", "preview-events", `${name}.json`);
  return JSON.parse(readFileSync(file, "utf8")) as readonly EngineEvent[];
}

const OWN = { words: "the engine's machine", gpu: "here", gpus: 1, perHour: undefined, rented: false } as const;

function finished(name: string, live: Live = NO_RUN): FinishedPreview {
  const resources = readChanges(recorded(name));
  const found = { resources, live, violations: violations(resources) };
  return { kind: "finished", stack: "recorded", isNew: false, ...found, place: OWN, forecasts: undefined };
}

const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

describe("changes", () => {
  test("are told with the property that changed, before and after", () => {
    const changed = readChanges(recorded("change")).filter(({ operation }) => operation !== "same");
    expect(changed.map(({ name, operation }) => `${operation} ${name}`)).toEqual([
      "replace tunestack-tensorboard",
      "update tunestack-jupyter",
    ]);
    const [tensorboard, jupyter] = changed;
    expect(tensorboard?.properties).toMatchObject([
      { path: "ports[0].external", kind: "changed", after: "23456", replaces: true },
    ]);
    expect(jupyter?.properties).toMatchObject([
      { path: "memory", before: "16384", after: "9216", replaces: false },
      { path: "memorySwap", before: "16384", after: "9216", replaces: false },
    ]);
  });

  test("count a replacement once, and one that follows from another with its reason", () => {
    const changed = readChanges(recorded("prefix"));
    const names = changed.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    const jupyter = changed.find(({ name }) => name === "tunestack-jupyter");
    expect(jupyter?.operation).toBe("replace");
    expect(jupyter?.properties.map(({ path }) => path.replace(/\[.*/, ""))).toContain("mounts");
  });

  test("do not depend on the order of the events", () => {
    expect(readChanges([...recorded("prefix")].reverse())).toEqual(readChanges(recorded("prefix")));
  });

  test("leave components out, and keep what stays", () => {
    const changes = readChanges(recorded("change"));
    expect(changes.some(({ type }) => type.startsWith("tunestack:") || type === "pulumi:pulumi:Stack")).toBe(false);
    // Pulumi makes them by itself, one for each version of a plugin.
    expect(recorded("change").some((event) => JSON.stringify(event).includes('"pulumi:providers:docker"'))).toBe(true);
    expect(changes.some(({ type }) => type.startsWith("pulumi:providers:"))).toBe(false);
    expect(changes.filter(({ operation }) => operation === "same").length).toBeGreaterThan(5);
  });

  test("errors are told once", () => {
    const diagnosticEvent = { message: "broken\n", color: "", severity: "error" } as const;
    const event = { sequence: 1, timestamp: 1, diagnosticEvent };
    expect(readErrors([event, event, ...recorded("change")])).toEqual(["broken"]);
  });
});

describe("values", () => {
  test("are found by Pulumi's paths", () => {
    const root = { ports: [{ external: 1 }], labels: { "dev.tunestack.run": "a" }, "a-b": { c: [1, 2] } };
    expect(valueAt(root, "ports[0].external")).toBe(1);
    expect(valueAt(root, 'labels["dev.tunestack.run"]')).toBe("a");
    expect(valueAt(root, "a-b.c[1]")).toBe(2);
    expect(valueAt(root, "ports[3].external")).toBeUndefined();
  });

  test("show no secret, say what is not known yet, and are cut", () => {
    expect(showInput("envs[0]", "HF_TOKEN=abc")).toBe("(secret)");
    expect(showInput("envs", ["HF_TOKEN=abc", "A=1"])).toBe('["(secret)","A=1"]');
    expect(showInput("login", { password: "abc", user: "me" })).toBe('{"password":"(secret)","user":"me"}');
    expect(showInput("x", "[secret]")).toBe("(secret)");
    expect(showInput("x", UNKNOWN)).toBe("(known after the update)");
    expect(showInput("x", "y".repeat(200))).toHaveLength(80);
    expect(showInput("x", undefined)).toBeUndefined();
  });
});

describe("what a change means for what runs", () => {
  const labels = (run?: string) => [
    { label: "dev.tunestack.service", value: run === undefined ? "jupyter" : "qlora-training" },
    ...(run === undefined ? [] : [{ label: "dev.tunestack.run", value: run }]),
  ];
  const container = (operation: "create" | "update" | "replace" | "delete", run?: string, next = run) => ({
    name: "x",
    type: "docker:index/container:Container",
    operation,
    inputs: { labels: labels(next) },
    before: operation === "create" ? undefined : { labels: labels(run) },
    retainOnDelete: false,
    protect: false,
  });
  const live = { kind: "run", name: "mine", step: 40, maxSteps: 200, secondsLeft: 600 } as const;

  test.each([
    [container("create"), "safe", "starts service jupyter"],
    [container("update"), "safe", "changes service jupyter while it runs"],
    [container("replace"), "interrupts", "restarts service jupyter"],
    [container("delete"), "interrupts", "stops service jupyter"],
    [container("replace", "mine", "next"), "kills", "kills run mine at step 40 of 200"],
    [container("delete", "mine"), "kills", "kills run mine at step 40 of 200"],
    [container("replace", "old", "next"), "safe", "starts run next in the place of run old, which is not in progress"],
  ] as const)("%#: %o", (change, level, text) => {
    expect(consequenceOf(change, live)).toEqual({ level, text });
  });

  test("a run whose status cannot be read is killed nonetheless", () => {
    const untold = { ...live, step: undefined, maxSteps: undefined };
    const { level, text } = consequenceOf(container("delete", "mine"), untold);
    expect([level, text]).toEqual(["kills", "kills run mine, which is in progress; its step cannot be read"]);
  });

  test.each([
    ["create", NO_RUN, "safe", "a new node pool"],
    ["update", live, "interrupts", "changes the node pool: where a node is made anew, what runs on it is moved"],
    ["replace", NO_RUN, "interrupts", "ends the nodes of this node pool, and what runs on them"],
    ["replace", live, "kills", "kills run mine at step 40 of 200, where it is on this node pool"],
  ] as const)("%s of nodes", (operation, running, level, text) => {
    const change = { ...container("create"), type: "gcp:container/nodePool:NodePool", operation };
    expect(consequenceOf(change, running)).toEqual({ level, text });
  });

  test("a run that cannot be seen from here is not called safe", () => {
    const { level, text } = consequenceOf(container("replace", "mine", "next"), { kind: "unseen", reason: "x" });
    expect([level, text]).toEqual(["kills", "kills run mine if it is in progress, which cannot be seen from here"]);
    const told = asMarkdown([finished("change", { kind: "unseen", reason: "gcloud is not installed" })]);
    expect(told).toContain("Whether a run is in progress cannot be seen from here: gcloud is not installed.");
  });

  test("a type that nobody thought of is not called safe", () => {
    const change = { ...container("replace"), type: "gcp:sql/user:User" };
    expect(consequenceOf(change, NO_RUN).level).toBe("unknown");
  });
});

describe("the comment", () => {
  test("tells service and property of a changed port", () => {
    const text = asMarkdown([finished("change")]);
    expect(text).toContain("### `recorded`: 1 updated, 1 replaced");
    expect(text).toContain(
      "| replace | `tunestack-tensorboard` | docker Container | **restarts service tensorboard** |",
    );
    expect(text).toMatch(/ {2}- `ports\[0\]\.external`: `\d+` → `23456`, which replaces it/);
    expect(text).toContain("Cost: no rented machines.");
  });

  test("has volumes at risk in bold, and what becomes of them", () => {
    const text = asMarkdown([finished("prefix")]);
    expect(text).toContain("- **The volume `tunestack-training-checkpoints` would be replaced**: a new, empty volume");
    expect(text).toContain("is kept, outside the stack");
    expect(finished("prefix").violations).toEqual([]);
  });

  test("is told what is lost where a volume is not kept", () => {
    const preview = finished("prefix");
    const resources = preview.resources.map((resource) => ({ ...resource, retainOnDelete: false }));
    const found = violations(resources);
    const text = asMarkdown([{ ...preview, resources, violations: found }]);
    expect(text).toContain("- **unprotected-data**: `tunestack-training-backup`");
    expect(text).toContain("its data are lost");
  });

  test("names a service that goes", () => {
    expect(asMarkdown([finished("delete")])).toContain("**stops service tensorboard**");
  });

  test("is the same for the same previews, in whatever order", () => {
    const failed = { kind: "failed", stack: "a", problems: "1 problem in the settings:", exitCode: 2 } as const;
    expect(asMarkdown([finished("change"), failed])).toBe(asMarkdown([failed, finished("change")]));
    expect(asJson([finished("change"), failed])).toEqual(asJson([failed, finished("change")]));
    expect(JSON.stringify(asJson([finished("change")]))).not.toMatch(/timestamp|\/home\/me/);
  });

  test("shows problems word for word, whatever stands in them", () => {
    const problems = "1 problem in the settings:\n  x = ```\n    </details> @someone";
    const text = asMarkdown([{ kind: "failed", stack: "dev", problems, exitCode: 2 }]);
    expect(text).toContain(`\`\`\`\`text\n${problems}\n\`\`\`\``);
  });

  test("lets no value break out of its table or code", () => {
    const preview = finished("delete");
    const resources = preview.resources.map((resource) => ({ ...resource, name: "a`|b" }));
    expect(asMarkdown([{ ...preview, resources }])).toContain("`` a`\\|b ``");
  });
});

describe("cost", () => {
  const base = { before: undefined, retainOnDelete: false, protect: false };
  const created = (name: string, type: string, inputs: object) => ({
    ...base,
    name,
    type,
    inputs: { ...inputs },
    operation: "create" as const,
  });
  const template = (machineType: string, more: object = {}) =>
    created("vm", "gcp:compute/instanceTemplate:InstanceTemplate", {
      region: "us-central1",
      machineType,
      disks: [{ diskSizeGb: 73 }],
      scheduling: { provisioningModel: "SPOT" },
      ...more,
    });
  const disk = created("data", "gcp:compute/disk:Disk", { zone: "us-central1-a", size: 730 });

  test("of one's own machines is nothing", () => {
    expect(costLine(readChanges(recorded("change")))).toBe("no rented machines");
    expect(costOf([created("a", "gcp:serviceaccount/account:Account", {})]).standard).toBe(0);
  });

  test("is the machine's with its disks, as declared, on spot and at the standard price", () => {
    // 73 GiB for 0.10 a month are a cent an hour.
    expect(costOf([template("g2-standard-8"), disk])).toEqual({
      asDeclared: expect.closeTo(0.4799 + 0.01 + 0.1, 6),
      atMost: expect.closeTo(0.4799 + 0.01 + 0.1, 6),
      spot: expect.closeTo(0.4799 + 0.01 + 0.1, 6),
      standard: expect.closeTo(0.8536 + 0.01 + 0.1, 6),
      unpriced: [],
    });
    const standard = template("g2-standard-8", { scheduling: { provisioningModel: "STANDARD" } });
    expect(costOf([standard]).asDeclared).toBeCloseTo(0.8636, 6);
  });

  const pool = (nodeConfig: object, totalMinNodeCount: number, totalMaxNodeCount: number, location = "us-central1") =>
    created("nodes", "gcp:container/nodePool:NodePool", {
      location,
      nodeConfig: { diskSizeGb: 73, ...nodeConfig },
      autoscaling: { totalMinNodeCount, totalMaxNodeCount },
    });
  const cluster = created("gke", "gcp:container/cluster:Cluster", {});

  test("of a cluster is what is always there, and what it may grow to", () => {
    const spot = pool(
      { machineType: "a2-highgpu-2g", spot: true, guestAccelerators: [{ type: "nvidia-tesla-a100" }] },
      0,
      3,
    );
    const services = pool({ machineType: "e2-standard-16" }, 1, 2, "us-central1-b");
    const always = 0.1 + 2 * 0.268 + 0.01;
    const all = always + 2 * 0.268 + 0.01 + 3 * (2 * 1.928 + 0.01);
    expect(costOf([cluster, services, spot])).toMatchObject({
      asDeclared: expect.closeTo(always, 6),
      atMost: expect.closeTo(all, 6),
      unpriced: [],
    });
    expect(costLine([cluster, services, spot])).toContain(`up to $${all.toFixed(2)} with all nodes`);
    expect(costLine([services])).not.toContain("up to $0.56");
  });

  test("of shares of Filestore is told to be missing in the sum, by their names", () => {
    const storageClass = (name: string, provisioner: string) =>
      created(name, "kubernetes:storage.k8s.io/v1:StorageClass", { metadata: { name }, provisioner });
    const claim = (name: string, storageClassName: string | undefined) =>
      created(name, "kubernetes:core/v1:PersistentVolumeClaim", {
        spec: { storageClassName, resources: { requests: { storage: "100Gi" } } },
      });
    const files = storageClass("files", "filestore.csi.storage.gke.io");
    const disks = storageClass("disks", "pd.csi.storage.gke.io");
    const others = [claim("wandb", "disks"), claim("mine", "elsewhere"), claim("gguf", ""), claim("none", undefined)];
    expect(costOf([cluster, files, disks, ...others])).toMatchObject({ asDeclared: 0.1, unpriced: [] });
    // The claims come before the class in a preview, which is sorted by name.
    const shares = [claim("checkpoints", "files"), claim("logs", "files"), ...others, cluster, files, disks];
    expect(costOf(shares).unpriced).toEqual(["checkpoints (Filestore, 100Gi)", "logs (Filestore, 100Gi)"]);
    expect(costLine(shares)).toContain("more than $0.10 after");
    expect(costLine(shares)).toContain("price not known: checkpoints (Filestore, 100Gi), logs (Filestore, 100Gi)");
  });

  test("of nodes with an attached GPU, or of a machine without a price, is not known", () => {
    const t4 = pool(
      { machineType: "n1-standard-16", guestAccelerators: [{ type: "nvidia-tesla-t4", count: 2 }] },
      0,
      1,
    );
    const large = pool({ machineType: "n2-highmem-8" }, 0, 1);
    expect(costOf([t4]).unpriced).toEqual(["nodes"]);
    expect(costOf([large]).unpriced).toEqual(["nodes"]);
  });

  test("before and after are told apart, by what was declared then and is now", () => {
    const larger = {
      ...template("a2-highgpu-1g"),
      operation: "update" as const,
      before: template("g2-standard-8").inputs,
    };
    expect(costLine([larger, disk])).toBe(
      "$0.49 an hour before, $2.04 after (on spot $2.04, standard $3.78); list prices of 2026-07-30, storage by the gigabyte and traffic apart",
    );
  });

  test("of what has no price is never guessed", () => {
    const attached = template("n1-standard-8", { guestAccelerators: [{ type: "nvidia-tesla-p4", count: 1 }] });
    for (const resource of [
      attached,
      template("g2-standard-8", { region: "africa-south1" }),
      created("vm", "gcp:compute/instance:Instance", {}),
      created("vm", "gcp:container/nodePool:NodePool", {}),
    ])
      expect(costOf([resource])).toMatchObject({ standard: 0, unpriced: ["vm"] });
    expect(costLine([attached])).toContain("$0.00 an hour before, price not known after");
    expect(costLine([attached, disk])).toContain("more than $0.10 after");
    expect(costLine([attached])).toContain("price not known: vm");
  });
});
