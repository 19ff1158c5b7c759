import type Docker from "dockerode";
import { z } from "zod";
import { planServices } from "../../../stacks/plan/services.ts";
import type { Mount } from "../../../stacks/plan/types.ts";
import { engineSettings } from "../../../stacks/settings/engine.ts";
import type { StackInputs } from "../../../stacks/settings/load.ts";
import { containerName, volumeName } from "../../../stacks/targets/docker/render.ts";
import type { Containers } from "../containers.ts";
import { namingOf } from "../naming.ts";
import type { Ended } from "../workloads.ts";

/** The newest complete checkpoint of a run. */
export interface NewestCheckpoint {
  readonly run: string;
  /** Where its manifest stands. Example: `/checkpoints/my-run/checkpoint-30/manifest.json`. */
  readonly manifest: string;
  readonly text: string;
}

/** What would be lost for good. */
export type Unsaved =
  | { readonly kind: "known"; readonly checkpoints: readonly NewestCheckpoint[] }
  /** There is no way left to look into the volumes. */
  | { readonly kind: "unknown"; readonly why: string };

const newestSchema = z.array(z.object({ run: z.string(), manifest: z.string(), text: z.string() }));

/** Tells each run's newest complete checkpoint and what its manifest says. */
const TELL_NEWEST = `
import json, pathlib
from tunestack_train.manifest import newest_complete
found = []
for run in sorted(path for path in pathlib.Path("/checkpoints").iterdir() if path.is_dir() and not path.name.startswith(".")):
    newest = newest_complete(run)
    if newest is not None:
        manifest = newest / "manifest.json"
        found.append({"run": run.name, "manifest": str(manifest), "text": manifest.read_text()})
print(json.dumps(found))
`;

/** Prints a file of the newest snapshot; reads only, so it waits for nobody's lock. */
const PRINT_SAVED = [
  `exec restic --repo "\${RESTIC_REPOSITORY:-/backup/restic}" --password-file /run/secrets/restic-password`,
  `--no-cache --no-lock dump latest "$1"`,
].join(" ");

/**
 * The newest complete checkpoints that are not, as they are now, in the newest snapshot. They are compared by their
 * manifests, which hold the hash of every file.
 */
export async function findUnsaved(containers: Containers, inputs: StackInputs): Promise<Unsaved> {
  return await withBackupTools(containers, inputs, (container) =>
    compareWithSnapshot((command) => containers.run(container, command)),
  );
}

/** @param run runs a program where the volumes are, and restic with what opens the repository. */
export async function compareWithSnapshot(run: (command: readonly string[]) => Promise<Ended>): Promise<Unsaved> {
  const listed = await run(["python", "-c", TELL_NEWEST]);
  if (listed.exitCode !== 0) return { kind: "unknown", why: lastLine(listed.stderr) };
  const newest = newestSchema.parse(JSON.parse(listed.stdout));
  const unsaved: NewestCheckpoint[] = [];
  for (const checkpoint of newest) {
    const saved = await run(["sh", "-c", PRINT_SAVED, "sh", checkpoint.manifest]);
    if (saved.exitCode !== 0 || saved.stdout !== checkpoint.text) unsaved.push(checkpoint);
  }
  return { kind: "known", checkpoints: unsaved };
}

/** Hands over a container with the volumes and restic: the stack's own, or one of its image for this alone. */
async function withBackupTools(
  containers: Containers,
  inputs: StackInputs,
  body: (container: string) => Promise<Unsaved>,
): Promise<Unsaved> {
  const naming = namingOf(inputs);
  const service = containerName(naming, "training-backup");
  const state = await containers.state(service);
  if (state.reachable) return await body(service);
  const helper = await createHelper(containers.client, inputs);
  if (helper === undefined) return { kind: "unknown", why: "the image of training-backup is gone" };
  try {
    await helper.start();
    return await body(helper.id);
  } finally {
    await helper.remove({ force: true });
  }
}

async function createHelper(client: Docker, inputs: StackInputs): Promise<Docker.Container | undefined> {
  const { prefix } = engineSettings(inputs);
  const image = `tunestack/${prefix}backup:${inputs.stack}`;
  const backup = planServices(inputs, "cpu").services.find(({ name }) => name === "training-backup");
  if (backup === undefined) return undefined;
  // A volume that is gone stays gone: the engine would make what is bound.
  const { Volumes } = await client.listVolumes();
  const there = new Set((Volumes ?? []).map(({ Name }) => Name));
  const mounts = backup.mounts.filter(
    (mount) => mount.kind !== "volume" || there.has(volumeName({ prefix }, mount.volume)),
  );
  try {
    return await client.createContainer({
      Image: image,
      Cmd: ["sleep", "3600"],
      Env: Object.entries(backup.environment).map(([key, value]) => `${key}=${value}`),
      HostConfig: { Binds: mounts.map((mount) => bind(mount, prefix)), Init: true },
    });
  } catch (error) {
    if (error instanceof Error && "statusCode" in error && error.statusCode === 404) return undefined;
    throw error;
  }
}

function bind(mount: Mount, prefix: string): string {
  switch (mount.kind) {
    case "volume":
      return `${volumeName({ prefix }, mount.volume)}:${mount.path}`;
    case "host":
    case "secret":
      return `${mount.source}:${mount.path}:ro`;
  }
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}
