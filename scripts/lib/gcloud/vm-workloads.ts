import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { engineSource } from "../../../stacks/targets/gcp-vm/paths.ts";
import { Containers } from "../containers.ts";
import { atPort } from "../reach.ts";
import { untilListening } from "../tunnel.ts";
import type { Workloads } from "../workloads.ts";
import { type CloudStack, requireVm } from "./vm.ts";
import { openTunnel } from "./vm-tunnel.ts";

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
  return new Containers({
    engine: `unix://${socket}`,
    sourceOf: engineSource,
    reach: async (url, local) => {
      const tunnel = await openTunnel(outputs, vm, { kind: "port", local, remote: Number(new URL(url).port) });
      await untilListening(local, tunnel.ended, vm.name);
      return { url: atPort(url, local), ended: tunnel.ended };
    },
  });
}
