import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type Docker from "dockerode";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildCommand } from "../../scripts/lib/build.ts";
import { UserError } from "../../scripts/lib/errors.ts";
import { openVm } from "../../scripts/lib/gcloud/vm-workloads.ts";
import { type End, moveRun } from "../../scripts/lib/move.ts";
import { runQuietly } from "../../scripts/lib/process.ts";
import { DEFAULT_STACK, pulumiEnvironment } from "../../scripts/lib/project.ts";
import { readInputs } from "../../scripts/lib/stack.ts";
import { planImage } from "../../stacks/plan/image.ts";
import { CLOUD_STACK, FakeGcloud, ONE_VM } from "../lib/fake-gcloud.ts";
import { ENGINE } from "./test-stack.ts";

const IMAGE = "tunestack-test/move:backup";
const silent = () => undefined;

let secrets: string;
let fake: FakeGcloud;
let desk: End;
let vm: End;

/** Writes a complete checkpoint with logs beside it, as training does. */
const WRITE = `
import pathlib, sys
from tunestack_train.manifest import write_manifest
folder = pathlib.Path("/checkpoints/first") / f"checkpoint-{sys.argv[1]}"
folder.mkdir(parents=True)
(folder / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 4096 + sys.argv[1].encode())
write_manifest(folder)
(pathlib.Path("/checkpoints/first") / f".checkpoint-{int(sys.argv[1]) + 1}.partial").mkdir()
logs = pathlib.Path("/logs/first")
logs.mkdir(exist_ok=True)
(logs / "metrics.jsonl").write_text(sys.argv[1])
`;

beforeAll(async () => {
  const build = buildCommand(planImage(readInputs(DEFAULT_STACK), "cpu"), "backup", ["--load", "--tag", IMAGE]);
  await runQuietly("docker", build, pulumiEnvironment(process.env));
  secrets = mkdtempSync(join(tmpdir(), "test-move-"));
  writeFileSync(join(secrets, "restic-password"), "a password of the tests", { mode: 0o444 });
  const [here, there] = await Promise.all(["test-move-desk", "test-move-vm"].map(startBackup));
  fake = new FakeGcloud({ answers: [ONE_VM], forwards: { "/var/run/docker.sock": "/var/run/docker.sock" } });
  desk = { workloads: ENGINE, container: here?.id ?? "" };
  // The VM's engine is this one, and the way to it the real one but for Google.
  vm = { workloads: await openVm(CLOUD_STACK), container: there?.id ?? "" };
});

afterAll(async () => {
  for (const end of [desk, vm]) {
    if (end !== undefined) await ENGINE.client.getContainer(end.container).remove({ force: true, v: true });
  }
  fake?.remove();
  rmSync(secrets, { recursive: true, force: true });
  await ENGINE.client.getImage(IMAGE).remove({ force: true });
});

/** A container like the backup service's: read-only but for its volumes, and an ordinary user's. */
async function startBackup(name: string): Promise<Docker.Container> {
  await ENGINE.client.getContainer(name).remove({ force: true, v: true }).catch(silent);
  const container = await ENGINE.client.createContainer({
    name,
    Image: IMAGE,
    Cmd: ["sleep", "600"],
    HostConfig: {
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      Init: true,
      Tmpfs: { "/tmp": "mode=1777" },
      Binds: [`${secrets}/restic-password:/run/secrets/restic-password:ro`],
      Mounts: ["/checkpoints", "/logs", "/models/gguf", "/backup"].map((Target) => ({
        Type: "volume" as const,
        Source: "",
        Target,
      })),
    },
  });
  await container.start();
  return container;
}

async function inside({ workloads, container }: End, command: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await workloads.run(container, command);
  if (exitCode !== 0) throw new Error(stderr);
  return stdout;
}

const trainTo = async (end: End, step: number) => await inside(end, ["python", "-c", WRITE, String(step)]);
const hashes = async (end: End) =>
  await inside(end, ["sh", "-c", "cd / && find checkpoints logs -type f -path '*first*' | sort | xargs sha256sum"]);
const hidden = async (end: End) => await inside(end, ["find", "/checkpoints", "/logs", "/backup", "-name", ".move-*"]);

test("a run goes from the desk to the VM and back, byte for byte, and leaves nothing half-moved", async () => {
  await trainTo(desk, 20);
  const moved = await moveRun(desk, vm, "first", false, silent);
  expect(moved).toMatchObject({ step: 20, verified_manifests: 1 });
  expect(await hashes(vm)).toBe(await hashes(desk));
  expect(await hashes(vm)).toContain("checkpoints/first/checkpoint-20/adapter_model.safetensors");
  expect(await inside(vm, ["ls", "-A", "/checkpoints/first"])).toBe("checkpoint-20\n");

  await trainTo(vm, 40);
  expect((await moveRun(vm, desk, "first", false, silent)).step).toBe(40);
  expect(await hashes(desk)).toBe(await hashes(vm));
  expect((await hidden(desk)) + (await hidden(vm))).toBe("");
});

test("a run that has gone further there stays as it is", async () => {
  await trainTo(vm, 60);
  const before = await hashes(vm);
  const refused = await moveRun(desk, vm, "first", false, silent).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(UserError);
  expect(String(refused)).toContain("it is at step 60, and what comes is at step 40");
  expect(await hashes(vm)).toBe(before);
  expect((await hidden(desk)) + (await hidden(vm))).toBe("");
});

test("a run that is not there is told", async () => {
  await expect(moveRun(desk, vm, "second", false, silent)).rejects.toThrow(/nothing of the run 'second'/);
});
