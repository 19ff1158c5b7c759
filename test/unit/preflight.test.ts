import { createServer } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { makePlan } from "../../stacks/plan/plan.ts";
import { SettingsError } from "../../stacks/settings/problems.ts";
import {
  type EngineState,
  engineClient,
  engineProblem,
  type FoundContainer,
  isOwn,
  readEngine,
} from "../../stacks/targets/docker/engine.ts";
import { engineProblems, imageOfSameRun, wantedPorts } from "../../stacks/targets/docker/preflight.ts";
import { specificationOf } from "../../stacks/targets/docker/render.ts";
import { CUDA_MACHINE, type InputChanges, stackInputs } from "../lib/inputs.ts";
import { NAMING } from "../lib/rendered.ts";

const FREE: EngineState = { containers: [], takenPorts: [] };

function plan(settings: InputChanges["settings"] = {}) {
  return makePlan(stackInputs({ settings }));
}

function container(changes: Partial<FoundContainer>): FoundContainer {
  return {
    name: "something",
    id: "0123456789abcdef",
    imageId: "sha256:old",
    running: true,
    exitCode: undefined,
    owner: undefined,
    run: undefined,
    specification: undefined,
    hostPorts: [],
    ...changes,
  };
}

function problems(engine: Partial<EngineState>, settings: InputChanges["settings"] = {}) {
  return engineProblems(plan(settings), NAMING, { ...FREE, ...engine });
}

describe("names and ports", () => {
  test("an empty engine is no problem, nor is what the stack itself has there", () => {
    expect(problems({})).toEqual([]);
    const own = container({ name: "agent-jupyter", owner: NAMING.owner, hostPorts: [8888] });
    expect(problems({ containers: [own] })).toEqual([]);
  });

  test("a name that a container of somebody else's has", () => {
    expect(problems({ containers: [container({ name: "agent-jupyter" })] })).toEqual([
      {
        path: "container agent-jupyter",
        value: "0123456789ab",
        reason: "the name is taken by a container that is not tunestack's",
        remedy:
          "set docker.prefix, such as docker.prefix: second-, or remove that container: docker rm --force agent-jupyter",
      },
    ]);
  });

  test("a name that another stack has, also of the run", () => {
    const other = container({ name: "agent-qlora-training", owner: "prod@/elsewhere" });
    const [problem, ...rest] = problems({ containers: [other] });
    expect(problem?.reason).toBe("the name is taken by the stack prod@/elsewhere");
    expect(rest).toEqual([]);
  });

  test("with a prefix the same names are others", () => {
    const engine = { containers: [container({ name: "agent-jupyter" })], takenPorts: [] };
    expect(engineProblems(plan(), { ...NAMING, prefix: "second-" }, engine)).toEqual([]);
  });

  test("a port that a container has, and one that some other program has", () => {
    const found = problems({ containers: [container({ name: "db", hostPorts: [8888] })], takenPorts: [6006] });
    expect(found).toEqual([
      {
        path: "services.jupyter.port",
        value: "8888",
        reason: "is in use by the container db",
        remedy: "stop it, or choose another: npx pulumi config set --path 'tunestack:services.jupyter.port' 8889",
      },
      {
        path: "services.tensorboard.port",
        value: "6006",
        reason: "is in use by another program",
        remedy: "stop it, or choose another: npx pulumi config set --path 'tunestack:services.tensorboard.port' 6007",
      },
    ]);
  });

  test("a port that moves between services of this stack is free in time", () => {
    const own = container({ name: "agent-tensorboard", owner: NAMING.owner, hostPorts: [7000] });
    expect(problems({ containers: [own] }, { services: { jupyter: { port: 7000 } } })).toEqual([]);
  });

  test("one port for two services", () => {
    expect(problems({}, { services: { tensorboard: { port: 8888 } } })).toEqual([
      {
        path: "services.tensorboard.port",
        value: "8888",
        reason: "is the port of services.jupyter too",
        remedy: "give each service a port of its own",
      },
    ]);
  });

  test("the ports that are looked at are those of the services that come up", () => {
    expect(wantedPorts(plan())).toEqual([8888, 6006, 8080, 9400]);
    expect(wantedPorts(plan({ profiles: ["training"] }))).toEqual([]);
  });
});

describe("a run", () => {
  const asked = { training: { run: "one", set: { max_steps: 5 } } };
  const same = specificationOf(plan(asked).run?.workload ?? failTest());
  const found = (changes: Partial<FoundContainer>) =>
    container({ name: "agent-qlora-training", owner: NAMING.owner, run: "one", specification: same, ...changes });

  test("in progress would be replaced by other settings: it is told, and nothing else", () => {
    const engine = { containers: [found({})] };
    expect(problems(engine, asked)).toEqual([]);
    expect(problems(engine, { training: { run: "two" } })).toEqual([
      {
        path: "training",
        value: "two",
        reason: "the run one is in progress and would be replaced",
        remedy: "stop it first: npm run train-stop (it saves a checkpoint); or set training.replaceRunning: true",
      },
    ]);
  });

  test("is replaced where it has ended, or where the settings say so", () => {
    const other = { training: { run: "two" } };
    expect(problems({ containers: [found({ running: false })] }, other)).toEqual([]);
    expect(problems({ containers: [found({})] }, { training: { run: "two", replaceRunning: true } })).toEqual([]);
  });

  test("of the same settings keeps its image, another takes the newest", () => {
    const run = plan(asked).run ?? failTest();
    const other = plan({ training: { run: "one", set: { max_steps: 6 } } }).run ?? failTest();
    const engine = { ...FREE, containers: [found({})] };
    expect(imageOfSameRun(run, NAMING, engine)).toBe("sha256:old");
    expect(imageOfSameRun(other, NAMING, engine)).toBeUndefined();
    expect(imageOfSameRun(run, { ...NAMING, owner: "prod@/project" }, engine)).toBeUndefined();
    expect(imageOfSameRun(run, NAMING, FREE)).toBeUndefined();
  });

  test("its specification changes with all that it is asked to do, and not with the image", () => {
    const of = (changes: InputChanges) => makePlan(stackInputs(changes)).run?.workload ?? failTest();
    const base = of({});
    const variants = [
      of({ settings: { training: { run: "other" } } }),
      of({ settings: { training: { set: { max_steps: 1 } } } }),
      of({ settings: { training: { memory: "8GiB" } } }),
      of({ settings: { training: { sharedMemory: "1GiB" } } }),
      of({ data: { kind: "hub", id: "org/set" } }),
      of({ secrets: ["hf-token"] }),
      of({ machine: CUDA_MACHINE }),
    ];
    const hashes = [base, ...variants].map(specificationOf);
    expect(new Set(hashes).size).toBe(hashes.length);
    expect(specificationOf({ ...base, image: { kind: "registry", reference: "other" } })).toBe(hashes[0]);
    expect(hashes[0]).toMatch(/^[0-9a-f]{16}$/);
  });
});

function failTest(): never {
  throw new Error("the plan has no run");
}

describe("the engine", () => {
  test.each([
    ["EACCES", "you have no right to use it", /usermod -aG docker/],
    ["ENOENT", "there is none: it is not installed or not running", /npm start/],
    ["ECONNREFUSED", "it is not running", /npm start/],
  ])("%s is told as what it means", (code, reason, remedy) => {
    const problem = engineProblem(undefined, Object.assign(new Error("x"), { code }));
    expect(problem).toMatchObject({ path: "Docker engine", value: "/var/run/docker.sock", reason });
    expect(problem.remedy).toMatch(remedy);
  });

  test.each(["tcp://10.0.0.7:2375", "unix:///home/me/.docker/run/docker.sock"])(
    "an engine that was named is not promised to be started by npm start: %s",
    (host) => {
      const refused = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
      expect(engineProblem(host, refused).remedy).toBe(
        "check docker.host or DOCKER_HOST, and that an engine runs and listens there",
      );
      expect(isOwn(host)).toBe(false);
    },
  );

  test("this machine's own engine is the one without a name, or with that of its socket", () => {
    expect([undefined, "unix:///var/run/docker.sock", "unix:///run/docker.sock"].map(isOwn)).toEqual([
      true,
      true,
      true,
    ]);
  });

  test("anything else is told in its own words", () => {
    expect(engineProblem("tcp://box:2375", new Error("socket hang up"))).toMatchObject({
      value: "tcp://box:2375",
      reason: "does not answer: socket hang up",
    });
  });

  test("an address that is none is a problem and no crash", async () => {
    const error: unknown = await readEngine("gpu-box", []).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(SettingsError);
    expect(String(error)).toContain("Docker engine = gpu-box\n    does not answer: Invalid URL");
  });

  test.each([
    [undefined, { socketPath: "/var/run/docker.sock" }],
    ["unix:///tmp/engine.sock", { socketPath: "/tmp/engine.sock" }],
    ["tcp://box:2375", { host: "box", port: 2375, protocol: "http" }],
    ["ssh://me@gpu-box", { host: "gpu-box", username: "me", protocol: "ssh" }],
  ])("%s is reached as it says", (host, modem) => {
    expect(engineClient(host).modem).toMatchObject(modem);
  });

  const servers: ReturnType<typeof createServer>[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
  });

  test("its containers are read with owner, run and ports, and the ports of other programs are found", async () => {
    const { createServer: createHttp } = await import("node:http");
    const listed = [
      {
        Id: "abc",
        Names: ["/agent-jupyter"],
        ImageID: "sha256:1",
        State: "running",
        Labels: { "dev.tunestack.owner": "dev@/project", "dev.tunestack.run": "one" },
        Ports: [{ PrivatePort: 8888, PublicPort: 8888 }, { PrivatePort: 9 }],
      },
      { Id: "def", Names: ["/old"], ImageID: "sha256:2", State: "exited", Labels: {}, Ports: [] },
    ];
    const api = createHttp((_request, response) => response.end(JSON.stringify(listed)));
    const busy = createServer();
    const folder = `/tmp/tunestack-engine-${process.pid}.sock`;
    await Promise.all([
      new Promise<void>((resolve) => api.listen(folder, () => resolve())),
      new Promise<void>((resolve) => busy.listen(0, "127.0.0.1", () => resolve())),
    ]);
    servers.push(api, busy);
    const address = busy.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    const free = await freePort();
    const engine = await readEngine(`unix://${folder}`, [8888, port, free]);
    expect(engine.takenPorts).toEqual([port]);
    expect(engine.containers).toEqual([
      {
        name: "agent-jupyter",
        id: "abc",
        imageId: "sha256:1",
        running: true,
        owner: "dev@/project",
        run: "one",
        specification: undefined,
        hostPorts: [8888],
      },
      {
        name: "old",
        id: "def",
        imageId: "sha256:2",
        running: false,
        owner: undefined,
        run: undefined,
        specification: undefined,
        hostPorts: [],
      },
    ]);
  });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === "object" && address !== null ? address.port : 0;
}

describe("the image of a run of the same settings", () => {
  const declared = plan().run;
  if (declared === undefined) throw new Error("the plan has no run");
  const found = (changes: Partial<FoundContainer>) =>
    imageOfSameRun(declared, NAMING, {
      containers: [
        container({
          name: "agent-qlora-training",
          owner: NAMING.owner,
          specification: specificationOf(declared.workload),
          running: false,
          ...changes,
        }),
      ],
      takenPorts: [],
    });

  test.each([
    ["in progress", { running: true }],
    ["finished", { exitCode: 0 }],
    ["stopped on request", { exitCode: 75 }],
  ])("is kept while the run is %s", (_state, changes) => expect(found(changes)).toBe("sha256:old"));

  test.each([1, 2, 3, 137])(
    "is not kept by a run that failed with %i, so that it is tried with what was mended",
    (exitCode) => expect(found({ exitCode })).toBeUndefined(),
  );
});
