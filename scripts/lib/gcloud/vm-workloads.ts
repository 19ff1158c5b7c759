import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { formatDuration } from "../../../stacks/settings/units.ts";
import { engineSource } from "../../../stacks/targets/gcp-vm/paths.ts";
import { Containers } from "../containers.ts";
import { machineError } from "../errors.ts";
import { atPort } from "../reach.ts";
import { untilListening } from "../tunnel.ts";
import type { Workloads } from "../workloads.ts";
import { type CloudStack, requireVm } from "./vm.ts";
import { openTunnel, runOnVm } from "./vm-tunnel.ts";

/**
 * The containers on the stack's VM: its engine's socket comes here through Identity-Aware Proxy, so that everything
 * which speaks to an engine speaks to that one.
 * @param retryMs between two tries to get in, in milliseconds; a test does not wait as long.
 */
export async function openVm(outputs: CloudStack, retryMs?: number): Promise<Workloads> {
  const vm = await requireVm(outputs);
  // For this user alone: whoever can reach the socket is root on the VM.
  const folder = mkdtempSync(join(tmpdir(), "tunestack-vm-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  const socket = join(folder, "engine.sock");
  const { ended } = await openTunnel(outputs, vm, { kind: "engine", socket }, retryMs);
  await untilListening(socket, ended, vm.name);
  const containers = new Containers({
    engine: `unix://${socket}`,
    sourceOf: engineSource,
    revive: async (container) => {
      await runOnVm(outputs, vm, START_AGAIN);
      await untilThere(containers, container);
    },
    reach: async (url, local) => {
      const tunnel = await openTunnel(outputs, vm, { kind: "port", local, remote: Number(new URL(url).port) });
      await untilListening(local, tunnel.ended, vm.name);
      return { url: atPort(url, local), ended: tunnel.ended };
    },
  });
  return containers;
}

/** The agent leaves a run away that ended on an earlier VM; without the note of that it makes the container anew. */
const START_AGAIN = "sudo -n python3 /opt/tunestack/agent.py forget-end && sudo -n systemctl restart tunestack-agent";
const POLL_MS = 1000;
/** The new VM may have to pull the image. */
const PATIENCE_MS = 15 * 60_000;

async function untilThere(workloads: Workloads, container: string): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await workloads.state(container)).exists) {
    if (Date.now() > deadline) {
      throw machineError({
        path: `container ${container}`,
        reason: `was not made within ${formatDuration(PATIENCE_MS / 1000)}`,
        remedy: "npm run train-status tells how the VM is",
      });
    }
    await sleep(POLL_MS);
  }
}
