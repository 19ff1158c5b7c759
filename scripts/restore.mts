import { resolve } from "node:path";
import type { StackOutputs } from "../stacks/outputs.ts";
import { formatBytes } from "../stacks/settings/units.ts";
import {
  askBackup,
  drilledSchema,
  listSchema,
  refuseRunInProgress,
  requireBackup,
  restoredSchema,
  verifiedSchema,
} from "./lib/backup.ts";
import { runCommand, usageError } from "./lib/errors.ts";
import { openWorkloads } from "./lib/open-workloads.ts";
import { type Parsed, parseCommand } from "./lib/options.ts";
import { restoreIntoFolder } from "./lib/snapshot-files.ts";
import { formatSnapshots } from "./lib/snapshot-table.ts";
import { requireOutputs } from "./lib/stack.ts";
import { step } from "./lib/steps.ts";
import type { Workloads } from "./lib/workloads.ts";

const SPEC = {
  name: "restore",
  summary:
    "Lists and verifies the snapshots, and brings one back: into the stack's volumes, or with --to into a folder of this\nmachine. What is there is never overwritten unless you say --force.",
  operands: { names: "list|verify|latest|SNAPSHOT", atMost: 1, help: "what to do, or which snapshot to bring back" },
  options: {
    run: { type: "string", value: "NAME", help: "only this run" },
    to: { type: "string", value: "FOLDER", help: "into this folder instead of the volumes" },
    force: { type: "boolean", help: "replaces what has the same name" },
    quick: { type: "boolean", help: "verify: the repository's structure, without reading all of its data" },
  },
  json: true,
  examples: ["npm run restore -- list", "npm run restore -- latest --run first-run --to ./restored"],
} as const;

await runCommand(async () => {
  const options = parseCommand(SPEC);
  const wanted = wantedOf(options.operands[0]);
  const outputs = await requireOutputs(options.stack);
  const workloads = await openWorkloads(outputs);
  const place = { workloads, container: await requireBackup(workloads, outputs) };
  const answer = await act(wanted, place, outputs, options);
  console.log(options.json ? JSON.stringify(answer.value, null, 2) : answer.text);
});

const IN_ITS_PLACE = "npm run train-stop, or restore another run (--run NAME), or into a folder (--to FOLDER)";

interface Place {
  readonly workloads: Workloads;
  readonly container: string;
}

interface Answer {
  readonly text: string;
  readonly value: object;
}

async function act(wanted: string, place: Place, outputs: StackOutputs, options: Parsed): Promise<Answer> {
  switch (wanted) {
    case "list":
      return await list(place);
    case "verify":
      return await verify(place, options.flag("quick"));
    default:
      return await bringBack(wanted, place, outputs, options);
  }
}

function wantedOf(word: string | undefined): string {
  if (word !== undefined && /^(list|verify|latest|[0-9a-f]{4,64})$/.test(word)) return word;
  throw usageError({
    path: "npm run restore",
    value: word,
    reason: word === undefined ? "does not say what to restore" : "is neither a command nor the id of a snapshot",
    remedy: "npm run restore -- list shows the snapshots; npm run restore -- latest brings the newest back",
  });
}

async function list({ workloads, container }: Place): Promise<Answer> {
  const value = await askBackup(workloads, container, ["list"], listSchema);
  return { value, text: formatSnapshots(value.snapshots) };
}

/** Reads the repository, then restores the newest snapshot aside and verifies every manifest in it. */
async function verify({ workloads, container }: Place, quick: boolean): Promise<Answer> {
  const repository = await step("repository", async () => {
    const value = await askBackup(workloads, container, ["verify", ...(quick ? ["--quick"] : [])], verifiedSchema);
    return { said: quick ? "its structure is well" : "all of its data is well", value };
  });
  const drill = await step("newest snapshot", async () => {
    const value = await askBackup(workloads, container, ["drill"], drilledSchema);
    return { said: `${value.snapshot_id} restored aside, ${value.verified_manifests} manifests verified`, value };
  });
  return { value: { repository, drill }, text: "the backup can be restored" };
}

async function bringBack(snapshot: string, place: Place, outputs: StackOutputs, options: Parsed): Promise<Answer> {
  const { workloads, container } = place;
  const run = options.text("run");
  const to = options.text("to");
  const force = options.flag("force");
  const value = await step(`restore ${snapshot}`, async (report) => {
    const restored =
      to === undefined
        ? await intoVolumes(place, outputs, { snapshot, run, force })
        : await restoreIntoFolder(workloads, container, { snapshot, run, folder: resolve(to), force }, report);
    return {
      said: `${formatBytes(restored.bytes)}, ${restored.verified_manifests} manifests verified`,
      value: restored,
    };
  });
  const lines = [
    ...value.restored.map((path) => `restored  ${path}`),
    ...value.kept.map((path) => `kept      ${path} (--force replaces it)`),
  ];
  return { value, text: lines.join("\n") };
}

async function intoVolumes(
  { workloads, container }: Place,
  outputs: StackOutputs,
  { snapshot, run, force }: { readonly snapshot: string; readonly run: string | undefined; readonly force: boolean },
) {
  await refuseRunInProgress(workloads, outputs, run, IN_ITS_PLACE);
  const args = [
    "restore",
    "--snapshot",
    snapshot,
    ...(run === undefined ? [] : ["--run", run]),
    ...(force ? ["--force"] : []),
  ];
  return await askBackup(workloads, container, args, restoredSchema);
}
