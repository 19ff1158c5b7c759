import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, test } from "vitest";
import { freePort } from "../../scripts/lib/free-port.ts";
import { openService } from "../../scripts/lib/open-service.ts";
import { reachOnEngine } from "../../scripts/lib/reach.ts";
import type { ContainerState, ReachedService } from "../../scripts/lib/workloads.ts";
import { freePorts } from "../lib/ports.ts";

const RUNNING: ContainerState = {
  exists: true,
  running: true,
  reachable: true,
  health: "healthy",
  startedAt: undefined,
  exitCode: undefined,
  restarts: 0,
  lastCheck: undefined,
};

function workloads(state: ContainerState = RUNNING) {
  const asked: [ReachedService, number][] = [];
  return {
    asked,
    state: async () => state,
    reach: async (service: ReachedService, port: number) => {
      asked.push([service, port]);
      return { url: service.url, ended: undefined };
    },
  };
}

const JUPYTER = { name: "jupyter", container: "agent-jupyter", url: "http://127.0.0.1:8888/lab" } as const;
const OUTPUTS = {
  services: [JUPYTER, { name: "training-backup", container: "agent-training-backup" } as const],
  leftOut: [{ service: "wandb-local", reason: "its image cannot be had" }],
};

describe("open", () => {
  test("asks for the service's page on the port that was given", async () => {
    const place = workloads();
    const { url } = await openService(place, OUTPUTS, { service: "jupyter", port: 9999 });
    expect(url).toBe("http://127.0.0.1:8888/lab");
    expect(place.asked).toEqual([[JUPYTER, 9999]]);
  });

  test.each([
    ["training-backup", "has no page", "use one of: jupyter"],
    ["wandb-local", "is left out: its image cannot be had", "use one of: jupyter"],
    ["nothing", "is no service of this stack", "use one of: jupyter"],
  ])("%s cannot be opened", async (service, reason, remedy) => {
    const opening = openService(workloads(), OUTPUTS, { service, port: undefined });
    await expect(opening).rejects.toThrow(reason);
    await expect(openService(workloads(), OUTPUTS, { service, port: undefined })).rejects.toThrow(remedy);
  });

  test("a service that does not run is told before a tunnel is opened", async () => {
    const place = workloads({ ...RUNNING, reachable: false, health: "exited (1)" });
    await expect(openService(place, OUTPUTS, { service: "jupyter", port: 1 })).rejects.toThrow("exited (1)");
    expect(place.asked).toEqual([]);
  });
});

describe("the way to an engine's port", () => {
  test("is none on this machine, and named where there is none", async () => {
    expect(await reachOnEngine(undefined, JUPYTER.url, 9000)).toEqual({ url: JUPYTER.url, ended: undefined });
    await expect(reachOnEngine("tcp://gpu-box:2375", JUPYTER.url, 9000)).rejects.toThrow(
      "ssh -L 9000:127.0.0.1:8888 gpu-box",
    );
  });

  test("takes another port where its own is in use", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const { port } = server.address() as AddressInfo;
    expect(await freePort(port)).not.toBe(port);
    server.close();
    const [free = 0] = await freePorts(1);
    expect(await freePort(free)).toBe(free);
  });
});
