import { describe, expect, test } from "vitest";
import { CPU_MACHINE, CUDA_MACHINE } from "../lib/inputs.ts";
import { weaknesses } from "../lib/hardening.ts";
import { renderStack } from "../lib/rendered.ts";

describe.each([
  ["a CPU", CPU_MACHINE],
  ["CUDA", CUDA_MACHINE],
] as const)("on %s", (_title, machine) => {
  test.each([...renderStack({ machine })])("%s is hardened", (name, { container }) => {
    expect(weaknesses(name, container)).toEqual([]);
  });
});

test("a memory limit reaches the container, in the provider's MiB", () => {
  const settings = { training: { memory: "24GiB" }, services: { tensorboard: { memory: "512MiB" } } };
  const rendered = renderStack({ settings });
  expect(rendered.get("tensorboard")?.container.memory).toBe(512);
  expect(rendered.get("qlora-training")?.container.memory).toBe(24 * 1024);
  expect(renderStack().get("qlora-training")?.container).not.toHaveProperty("memory");
});

test("a run may exit and stays where it is; a service must run", () => {
  const rendered = renderStack();
  expect(rendered.get("qlora-training")?.container).toMatchObject({ mustRun: false, restart: "on-failure", maxRetryCount: 2 });
  for (const [name, { container }] of rendered) {
    if (name !== "qlora-training") expect(container, name).toMatchObject({ mustRun: true, restart: "unless-stopped" });
  }
});

/** One thing made worse, and what is said of it. */
const WORSE: readonly (readonly [string, Record<string, unknown>, readonly string[]])[] = [
  ["no user", { user: undefined }, ["runs as root"]],
  ["root by name", { user: "root" }, ["runs as root"]],
  ["root by number", { user: "0:0" }, ["runs as root"]],
  ["a file system that can be written", { readOnly: false }, ["can write to its root file system"]],
  ["privileged", { privileged: true }, ["is privileged"]],
  ["its capabilities", { capabilities: undefined }, ["keeps capabilities"]],
  ["a capability", { capabilities: { drops: ["ALL"], adds: ["SYS_ADMIN"] } }, ["has capabilities added"]],
  ["new privileges", { securityOpts: [] }, ["can gain privileges"]],
  [
    "a port on every address",
    { ports: [{ internal: 8888, external: 8888, ip: "0.0.0.0" }] },
    ["offers port 8888 beyond the loopback address"],
  ],
  [
    "a port without an address",
    { ports: [{ internal: 8888, external: 8888 }] },
    ["offers port 8888 beyond the loopback address"],
  ],
  ["the machine's network", { networkMode: "host" }, ["shares the machine's network"]],
  ["the machine's processes", { pidMode: "host" }, ["shares the machine's processes or memory"]],
  ["no memory limit", { memory: undefined }, ["has no memory limit"]],
  ["memory 0, which is no limit", { memory: 0 }, ["has no memory limit"]],
  ["no limit of processes", { ulimits: [] }, ["has no limit of processes"]],
  ["no health check", { healthcheck: undefined }, ["has no health check"]],
  ["a health check switched off", { healthcheck: { tests: ["NONE"] } }, ["has no health check"]],
  ["logs without an end", { logOpts: { "max-size": "10m" } }, ["does not rotate its logs"]],
  [
    "a tmpfs with room without end",
    { tmpfs: { "/tmp": "rw,nosuid,nodev" } },
    ["has a tmpfs without nosuid, nodev or size: /tmp"],
  ],
  [
    "a folder of the machine to write to",
    { mounts: [{ type: "bind", source: "/home", target: "/data", readOnly: false }] },
    ["can write to this machine's /home"],
  ],
  [
    "the engine's socket",
    { mounts: [{ type: "bind", source: "/var/run/docker.sock", target: "/docker.sock", readOnly: true }] },
    ["holds the engine's socket at /docker.sock"],
  ],
  ["a token in the environment", { envs: ["HF_TOKEN=x"] }, ["shows a secret: HF_TOKEN"]],
  ["a secret's value in an argument", { command: ["serve", "--auth", "s3cr3t"] }, ["shows a secret: an argument"]],
  ["a secret's value in a label", { labels: [{ label: "note", value: "s3cr3t" }] }, ["shows a secret: note"]],
];

test.each(WORSE)("a container with %s is told", (_title, change, expected) => {
  const good = renderStack().get("jupyter")?.container;
  expect(weaknesses("jupyter", { ...good, ...change }, ["s3cr3t"])).toEqual(expected);
});
