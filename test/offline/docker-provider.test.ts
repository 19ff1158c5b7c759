import { readFile } from "node:fs/promises";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { check } from "../../offline/docker-provider/check.ts";
import { checkConfig, hostOf } from "../../offline/docker-provider/configuration.ts";
import { createRequest, nanoCpus } from "../../offline/docker-provider/container-body.ts";
import { diff } from "../../offline/docker-provider/diff.ts";
import { formatDuration, parseDuration } from "../../offline/docker-provider/duration.ts";
import { engineMessage } from "../../offline/docker-provider/engine.ts";
import { gpuRequest, gpuSetting } from "../../offline/docker-provider/gpus.ts";
import { operations, resourceOf, tokenOf } from "../../offline/docker-provider/operations.ts";
import { repoDigest } from "../../offline/docker-provider/remote-image.ts";
import {
  type Properties,
  type Property,
  type Shape,
  unknown,
  type Value,
} from "../../offline/docker-provider/shape.ts";
import { containerShape, networkShape, remoteImageShape, volumeShape } from "../../offline/docker-provider/shapes.ts";
import { inputsFromState, withMeta, withoutMarks } from "../../offline/docker-provider/state.ts";
import { eachCase, verdict } from "./lib/cases.ts";

const containerUrn = "urn:pulumi:dev::project::docker:index/container:Container::trainer";
const noEngine = operations(
  () => {
    throw new Error("no engine in a quick test");
  },
  () => {},
);

function checked(given: Properties, urn = containerUrn) {
  return noEngine.check(urn, given, {}, Buffer.alloc(4, 7));
}

describe("durations", () => {
  it.each([
    ["0s", 0],
    ["0", 0],
    ["1m30s", 90e9],
    ["1.5h", 5400e9],
    ["250ms", 250e6],
    ["-1s", -1e9],
    ["10", undefined],
    ["ten seconds", undefined],
  ])("%s", (text, nanoseconds) => {
    expect(parseDuration(text)).toBe(nanoseconds);
  });

  it.each([
    [0, "0s"],
    [60e9, "1m0s"],
    [3600e9, "1h0m0s"],
    [1.5e9, "1.5s"],
    [2e6, "2ms"],
    [1500, "1.5µs"],
    [7, "7ns"],
  ])("%d is written as Go does: %s", (nanoseconds, text) => {
    expect(formatDuration(nanoseconds)).toBe(text);
  });

  it("come back from what was written", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 1e12 }), (nanoseconds) => {
        expect(parseDuration(formatDuration(nanoseconds))).toBe(nanoseconds);
      }),
    );
  });
});

describe("GPU settings", () => {
  it.each([
    ["all", { Driver: "", Count: -1, Options: {}, Capabilities: [["gpu"]] }],
    ["2", { Driver: "", Count: 2, Options: {}, Capabilities: [["gpu"]] }],
    ["device=0", { Driver: "", Count: 0, Options: {}, DeviceIDs: ["0"], Capabilities: [["gpu"]] }],
    ["'device=GPU-1'", { Driver: "", Count: 0, Options: {}, DeviceIDs: ["GPU-1"], Capabilities: [["gpu"]] }],
    [
      "driver=nvidia,count=all,capabilities=utility",
      { Driver: "nvidia", Count: -1, Options: {}, Capabilities: [["utility", "gpu"]] },
    ],
  ])("%s", (setting, request) => {
    expect(gpuRequest(setting)).toEqual(request);
  });

  it.each(["many", "all,all", "speed=9"])("%s is refused", (setting) => {
    expect(() => gpuRequest(setting)).toThrow("Error setting gpus");
  });

  it("are recognised again", () => {
    expect(gpuSetting([gpuRequest("all")])).toBe("all");
    expect(gpuSetting([gpuRequest("device=0")])).toBe("device=0");
    expect(gpuSetting([])).toBe("");
    expect(gpuSetting([gpuRequest("2")])).toBeUndefined();
  });
});

describe("checking inputs", () => {
  it("fills in the official provider's defaults, and says which", () => {
    const { inputs, problems } = checked({ name: "c", image: "i", ports: [{ internal: 80 }] });
    expect(problems).toEqual([]);
    expect(inputs).toMatchObject({
      mustRun: true,
      restart: "no",
      networkMode: "bridge",
      start: true,
      removeVolumes: true,
    });
    expect(inputs.ports).toEqual([{ internal: 80, ip: "0.0.0.0", protocol: "tcp", __defaults: ["ip", "protocol"] }]);
    expect(inputs.__defaults).toContain("mustRun");
    expect(inputs.__defaults).not.toContain("name");
  });

  it("makes a name up, and keeps the one that it made", () => {
    const first = checked({ image: "i" }).inputs;
    expect(first.name).toMatch(/^trainer-[0-9a-f]{7}$/);
    const second = noEngine.check(containerUrn, { image: "i" }, first, Buffer.alloc(4, 9)).inputs;
    expect(second.name).toBe(first.name);
    expect(noEngine.check(containerUrn, { image: "i" }, {}, Buffer.alloc(4, 9)).inputs.name).not.toBe(first.name);
    expect(noEngine.check(containerUrn, { image: "i", name: "c" }, first, Buffer.alloc(4)).inputs.name).toBe("c");
  });

  it.each<[Properties, string, string]>([
    [{ name: "c" }, "image", "it is required and missing"],
    [
      { image: "i", restart: "maybe" },
      "restart",
      "'maybe' doesn't match the pattern '^(no|on-failure|always|unless-stopped)$'",
    ],
    [{ image: "i", memory: -3 }, "memory", "'-3' cannot be lower than 0"],
    [{ image: "i", memory: "many" }, "memory", "it must be a whole number"],
    [{ image: "i", memory: 1.5 }, "memory", "it must be a whole number"],
    [{ image: "i", init: "yes" }, "init", "it must be true or false"],
    [{ image: "i", envs: "A=1" }, "envs", "it must be a list"],
    [{ image: "i", healthcheck: { interval: "soon" } }, "healthcheck.interval", "'soon' is not a valid duration"],
    [{ image: "i", healthcheck: { interval: "-1s" } }, "healthcheck.interval", "'-1s' duration must not be negative"],
    [
      { image: "i", mounts: [{ type: "zip", target: "/x" }] },
      "mounts[0].type",
      "'zip' doesn't match the pattern '^(bind|volume|tmpfs)$'",
    ],
    [{ image: "i", mounts: [{ type: "bind" }] }, "mounts[0].target", "it is required and missing"],
    [
      { image: "i", volumes: [{ hostPath: "data", containerPath: "/x" }] },
      "volumes[0].hostPath",
      "'data' must be an absolute path",
    ],
    [{ image: "i", nosuch: 1 }, "nosuch", "there is no such property"],
    [{ image: "i", ports: [{ internal: 80, extern: 1 }] }, "ports[0].extern", "there is no such property"],
    [{ image: "i", exitCode: 1 }, "exitCode", "it is told by the resource and cannot be set"],
    [{ image: "i", uploads: [] }, "uploads", "this stand-in of the Docker provider doesn't cover it"],
    [{ image: "i", gpus: "all", deviceRequests: [] }, "deviceRequests", "it cannot be used together with gpus"],
  ])("refuses %j", (given, path, reason) => {
    const { problems } = checked(given);
    expect(problems.map((one) => one.path)).toEqual([path]);
    expect(problems[0]?.reason).toContain(reason);
  });

  it("tells every problem at once", () => {
    expect(
      checked({ restart: "x", memory: -1, nosuch: 1 })
        .problems.map(({ path }) => path)
        .sort(),
    ).toEqual(["image", "memory", "nosuch", "restart"]);
  });

  it("lets what is not known yet pass, wherever it stands", () => {
    const given = {
      name: "c",
      image: unknown,
      memory: unknown,
      mounts: [{ type: unknown, target: "/x" }],
      ports: unknown,
    };
    expect(checked(given).problems).toEqual([]);
  });

  it("changes nothing when it is repeated", () => {
    const once = checked({
      name: "c",
      image: "i",
      mounts: [{ type: "tmpfs", target: "/t" }],
      healthcheck: { tests: ["x"] },
    });
    const again = noEngine.check(containerUrn, once.inputs, once.inputs, Buffer.alloc(4));
    expect(withoutMarks(again.inputs)).toEqual(withoutMarks(once.inputs));
  });

  it("names what it covers when it is asked for another resource", () => {
    expect(tokenOf("urn:pulumi:dev::p::tunestack:docker:Stack$docker:index/volume:Volume::v")).toBe(
      "docker:index/volume:Volume",
    );
    expect(() => resourceOf("urn:pulumi:dev::p::docker:index/service:Service::s")).toThrow(
      "docker:index/container:Container",
    );
  });
});

describe("the provider's configuration", () => {
  it("takes the engine from the setting, else from the environment, else from this machine's socket", () => {
    expect(hostOf({ host: "tcp://h:1" }, { DOCKER_HOST: "tcp://e:1" })).toBe("tcp://h:1");
    expect(hostOf({}, { DOCKER_HOST: "tcp://e:1" })).toBe("tcp://e:1");
    expect(hostOf({}, {})).toBe("unix:///var/run/docker.sock");
  });

  it("refuses by name what it doesn't cover", () => {
    expect(checkConfig({ host: "unix:///x", registryAuth: "[]" }).map(({ path }) => path)).toEqual(["registryAuth"]);
  });
});

describe("what a change does", () => {
  const goldenFile = new URL("golden/docker-changes.json", import.meta.url);
  const fill = (urn: string, given: Properties) => noEngine.check(urn, given, {}, Buffer.alloc(4, 7)).inputs;

  it("is what the official provider was seen to do, for every property", async () => {
    const golden = JSON.parse(await readFile(goldenFile, "utf8")) as Record<string, string>;
    const own: Record<string, string> = {};
    for (const { name, urn, state, inputs } of eachCase(withoutMarks, fill)) {
      const { changes, deleteFirst } = noEngine.diff(urn, state, fill(urn, inputs), []);
      own[name] = verdict(changes, deleteFirst);
    }
    expect(own).toEqual(golden);
  });

  it("is a replacement as long as the new value is not known", () => {
    const shape = { image: { kind: "string", replaces: true } } as const;
    expect(diff(shape, { image: "a" }, { image: unknown })).toEqual([
      { path: "image", kind: "update", replaces: true },
    ]);
  });

  it("is nothing for what the program asks to ignore", () => {
    const state = { ...fill(containerUrn, { name: "c", image: "i" }) };
    const wanted = fill(containerUrn, { name: "c", image: "j", memory: 9 });
    expect(noEngine.diff(containerUrn, state, wanted, ["image"]).changes.map(({ path }) => path)).toEqual(["memory"]);
  });
});

const word = fc.string({ minLength: 1, maxLength: 8 });

function anyValue(property: Property): fc.Arbitrary<Value> {
  switch (property.kind) {
    case "string":
      return word;
    case "integer":
      return fc.integer({ min: 0, max: 9 });
    case "boolean":
      return fc.boolean();
    case "strings":
      return fc.array(word, { maxLength: 3 });
    case "map":
      return fc.dictionary(fc.constantFrom("a", "b"), word);
    case "objects":
      return fc.array(objectOf(property.shape), { maxLength: 2 });
    case "object":
      return objectOf(property.shape);
  }
}

function objectOf(shape: Shape): fc.Arbitrary<Properties> {
  const fields = Object.fromEntries(Object.entries(shape).map(([name, property]) => [name, anyValue(property)]));
  return fc.record(fields, { requiredKeys: [] }) as fc.Arbitrary<Properties>;
}

describe.each([
  ["containers", containerShape],
  ["volumes", volumeShape],
  ["networks", networkShape],
  ["images", remoteImageShape],
])("any state of %s", (_what, shape: Shape) => {
  it("differs in nothing from itself, whatever the order of its sets", () => {
    fc.assert(
      fc.property(objectOf(shape), (state) => {
        expect(diff(shape, state, state)).toEqual([]);
        const reversed = Object.fromEntries(
          Object.entries(state).map(([name, value]) => {
            const property = shape[name];
            const unordered =
              property?.kind === "objects" || (property?.kind === "strings" && property.order === "set");
            return [name, unordered && Array.isArray(value) ? [...value].reverse() : value];
          }),
        );
        expect(diff(shape, reversed, state)).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });

  it("differs from another in at most the properties that differ", () => {
    fc.assert(
      fc.property(objectOf(shape), objectOf(shape), (state, wanted) => {
        const same = Object.keys(shape).filter((name) => JSON.stringify(state[name]) === JSON.stringify(wanted[name]));
        const changed = diff(shape, state, wanted).map(({ path }) => path.replace(/[.[].*$/, ""));
        expect(changed.filter((name) => same.includes(name))).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });
});

describe("the request that creates a container", () => {
  it("is complete for a container of this project", async () => {
    const { inputs, problems } = checked({
      name: "agent-qlora-training",
      image: "sha256:0123",
      command: ["run"],
      entrypoints: ["/opt/bin/tool"],
      envs: ["A=1"],
      user: "1000:1000",
      readOnly: true,
      init: true,
      restart: "on-failure",
      maxRetryCount: 3,
      capabilities: { drops: ["ALL"] },
      securityOpts: ["no-new-privileges"],
      memory: 2048,
      memorySwap: 4096,
      cpus: "1.5",
      shmSize: 1024,
      tmpfs: { "/tmp": "size=64m,mode=1777" },
      ulimits: [{ name: "nofile", soft: 1024, hard: 2048 }],
      mounts: [
        { type: "volume", source: "training_logs", target: "/logs" },
        { type: "bind", source: "/data", target: "/data/set", readOnly: true },
      ],
      volumes: [{ hostPath: "/etc/ssl", containerPath: "/ssl", readOnly: true }],
      ports: [{ internal: 8888, external: 8888, ip: "127.0.0.1" }],
      labels: [{ label: "project", value: "tunestack" }],
      healthcheck: { tests: ["CMD", "health"], interval: "30s", timeout: "5s", startPeriod: "1m0s", retries: 3 },
      logDriver: "json-file",
      logOpts: { "max-size": "10m", "max-file": "3" },
      deviceRequests: [{ driver: "cdi", deviceIds: ["nvidia.com/gpu=all"] }],
      groupAdds: ["1001"],
      hostname: "trainer",
      workingDir: "/home/tunestack",
      stopSignal: "SIGTERM",
      stopTimeout: 120,
      networkMode: "bridge",
      sysctls: { "net.core.somaxconn": "1024" },
      hosts: [{ host: "engine", ip: "host-gateway" }],
    });
    expect(problems).toEqual([]);
    await expect(`${JSON.stringify(createRequest(withoutMarks(inputs)), null, 2)}\n`).toMatchFileSnapshot(
      "golden/container-request.json",
    );
  });

  it("refuses what Docker's own tools refuse", () => {
    expect(() => createRequest({ name: "c", image: "i", command: ["a", ""] })).toThrow(
      "values for command may not be empty",
    );
    expect(() => createRequest({ name: "c", image: "i", volumes: [{}] })).toThrow(
      "volume entry without container path",
    );
    expect(() => nanoCpus("half")).toThrow("failed to parse half");
    expect(() => nanoCpus("0.0000000001")).toThrow("too precise");
    expect(nanoCpus("1.5")).toBe(1_500_000_000);
  });

  it("acts on systempaths=unconfined itself and passes the other options on", () => {
    const { HostConfig: host } = createRequest({
      image: "i",
      securityOpts: ["systempaths=unconfined", "no-new-privileges"],
    });
    expect(host).toMatchObject({ SecurityOpt: ["no-new-privileges"], MaskedPaths: [], ReadonlyPaths: [] });
  });
});

describe("the state", () => {
  const container = resourceOf(containerUrn);

  it("carries what the official provider needs to take over", () => {
    const { __meta: meta } = withMeta(container, { name: "c" });
    expect(JSON.parse(String(meta))).toMatchObject({ schema_version: "2" });
  });

  it("gives back the inputs that it was made from, the found value where they differ, and the made-up name's mark", () => {
    const inputs = checked({ image: "i", memory: 64 }).inputs;
    const same = inputsFromState(container, inputs, withoutMarks(inputs));
    expect(same).toEqual(inputs);
    const drifted = inputsFromState(container, inputs, { ...withoutMarks(inputs), mustRun: false, memory: 128 });
    expect(drifted).toEqual({ ...inputs, mustRun: false, memory: 128 });
  });

  it("of something imported becomes inputs that say only what is not the default", () => {
    const state = { name: "c", image: "i", restart: "no", memory: 0, readOnly: true, exitCode: 3, dns: [] };
    expect(inputsFromState(container, {}, state)).toEqual({ name: "c", image: "i", readOnly: true });
  });

  it("is not known before the creation where the engine fills it in", async () => {
    const planned = await noEngine.create(
      containerUrn,
      checked({ name: "c", image: "i", command: ["x"] }).inputs,
      true,
    );
    expect(planned.id).toBe("");
    expect(planned.state).toMatchObject({ name: "c", command: ["x"], hostname: unknown, networkDatas: unknown });
  });

  it("after a previewed update is the old one with what was asked for", async () => {
    const before = { ...withoutMarks(checked({ name: "c", image: "i", memory: 64 }).inputs), hostname: "abc" };
    const wanted = checked({ name: "c", image: "i", memory: 128 }).inputs;
    const after = await noEngine.update(containerUrn, "id", before, wanted, [], true);
    expect(after).toMatchObject({ memory: 128, hostname: "abc" });
  });
});

describe("the engine's words", () => {
  it("are those of Docker's own client", () => {
    expect(engineMessage({ statusCode: 409, json: { message: "Conflict. In use" } })).toBe(
      "Error response from daemon: Conflict. In use",
    );
    expect(engineMessage(new Error("(HTTP code 500) server error - no such host"))).toBe(
      "Error response from daemon: no such host",
    );
    expect(engineMessage(new Error("plain"))).toBe("plain");
  });

  it("say what to do when there is no engine, or no right to it", () => {
    const missing = Object.assign(new Error("connect ENOENT /var/run/docker.sock"), { code: "ENOENT" });
    expect(engineMessage(missing)).toContain("start it");
    expect(engineMessage(Object.assign(new Error("connect EACCES"), { code: "EACCES" }))).toContain("group docker");
  });

  it("give the digest under which an image's own repository knows it", () => {
    expect(repoDigest("lab/a:1", ["other@sha256:1", "lab/a@sha256:2"])).toBe("lab/a@sha256:2");
    expect(repoDigest("lab/a:1", [])).toBe("");
  });
});

it("check is the same function for every resource", () => {
  const made = check({
    shape: volumeShape,
    urn: "urn:a::b::c::v",
    given: {},
    old: {},
    seed: Buffer.alloc(4),
    named: true,
  });
  expect(made.inputs).toEqual({ name: "v-0000000", __defaults: ["name"] });
});
