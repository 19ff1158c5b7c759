import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import type { GcpVmOutputs } from "../../stacks/outputs.ts";

/** What gcloud answers where what was typed contains `when`; the first that fits counts. */
export interface Answer {
  readonly when: string;
  readonly stdout?: string;
  readonly stderr?: string;
  readonly exitCode?: number;
  /** Only for so many calls; the next answer that fits comes after. */
  readonly times?: number;
}

export interface Scenario {
  readonly answers: readonly Answer[];
  /** What is behind a socket or port of the VM: a socket or port of this machine. */
  readonly forwards?: Readonly<Record<string, string | number>>;
}

/** A folder with a `gcloud` that plays a scenario, and what it was asked. */
export class FakeGcloud {
  readonly folder = mkdtempSync(join(tmpdir(), "fake-gcloud-"));
  readonly #path = process.env.PATH;

  constructor(scenario: Scenario = { answers: [] }) {
    symlinkSync(join(PROJECT_DIR, "test", "lib", "fake-gcloud", "gcloud.mjs"), join(this.folder, "gcloud"));
    writeFileSync(join(this.folder, "calls.jsonl"), "");
    this.play(scenario);
    process.env.PATH = `${this.folder}:${this.#path}`;
    process.env.FAKE_GCLOUD = this.folder;
  }

  play(scenario: Scenario): void {
    writeFileSync(join(this.folder, "scenario.json"), JSON.stringify({ forwards: {}, ...scenario }));
  }

  /** What was typed so far, a line each. */
  get calls(): readonly string[] {
    const lines = readFileSync(join(this.folder, "calls.jsonl"), "utf8").trim();
    return lines === "" ? [] : lines.split("\n").map((line) => (JSON.parse(line) as string[]).join(" "));
  }

  remove(): void {
    process.env.PATH = this.#path;
    delete process.env.FAKE_GCLOUD;
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export const CLOUD_STACK: Pick<GcpVmOutputs, "target" | "stack" | "cloud"> = {
  target: "gcp-vm",
  stack: "prod",
  cloud: {
    project: "team-ml",
    region: "us-central1",
    zones: ["us-central1-a", "us-central1-b"],
    group: "tunestack-prod",
    provisioning: "spot",
    bucket: "team-ml-tunestack-prod",
  },
};

const INSTANCE = "https://compute/projects/team-ml/zones/us-central1-b/instances/tunestack-prod-x1";

/** The group's list of instances with one that runs. */
export const ONE_VM: Answer = {
  when: "list-instances tunestack-prod --region us-central1",
  stdout: JSON.stringify([{ instance: INSTANCE, instanceStatus: "RUNNING" }]),
};

export const NO_VM: Answer = { when: "list-instances", stdout: "[]" };

/** What the VM tells in the bucket. */
export function vmStatus(changes: Readonly<Record<string, string>> = {}): Answer {
  const status = {
    schema: 1,
    stage: "up",
    message: "the services are up",
    time: new Date().toISOString(),
    instance: "tunestack-prod-x1",
    zone: "us-central1-b",
    machineType: "g2-standard-8",
    plan: "17",
    ...changes,
  };
  return { when: "storage cat gs://team-ml-tunestack-prod/status/vm.json", stdout: JSON.stringify(status) };
}

export const PLAN: Answer = {
  when: "storage objects describe gs://team-ml-tunestack-prod/plan/compose.yaml",
  stdout: JSON.stringify({ generation: "17" }),
};

/** A Docker engine on a socket, as far as a test needs one. */
export async function fakeEngine(
  socket: string,
  handle: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<Server> {
  const server = createServer(handle);
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return server;
}
