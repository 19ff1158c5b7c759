import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Properties, Value } from "../../offline/docker-provider/shape.ts";
import { withoutMarks } from "../../offline/docker-provider/state.ts";
import { run } from "../../offline/process.ts";
import { ensureDockerProvider } from "../../offline/setup.ts";
import { eachCase, verdict } from "./lib/cases.ts";
import { findOfficial, whySkipped } from "./lib/official.ts";
import { Plugin } from "./lib/plugin.ts";
import { docker, freePort, homeWith, inspect, Project, standInHome } from "./lib/project.ts";

const official = await findOfficial();
const prefix = `tunestack-compare-${process.pid}`;
const containerUrn = "urn:pulumi:dev::project::docker:index/container:Container::c";

let folder: string;
let standIn: string;
let officialHome: string;
let image: string;

beforeAll(async () => {
  if (official === undefined) return;
  folder = await mkdtemp(join(tmpdir(), "tunestack-compare-"));
  ({ home: standIn, image } = await standInHome(join(folder, "stand-in")));
  officialHome = await homeWith(standIn, join(folder, "official"), official);
});

afterAll(async () => {
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

beforeEach((context) => {
  if (official === undefined) context.skip(whySkipped);
});

describe("call by call, the stand-in and the official Docker provider", () => {
  let one: Plugin;
  let other: Plugin;

  beforeAll(async () => {
    if (official === undefined) return;
    const options = { pulumiHome: standIn, cacheDir: join(folder, "cache"), report: () => {} };
    one = await Plugin.start((await ensureDockerProvider(options)).path);
    other = await Plugin.start(official);
  });

  afterAll(async () => {
    await one?.stop();
    await other?.stop();
  });

  it("check inputs alike and judge every change alike", async () => {
    const fill = new Map<string, Properties>();
    const filled = async (urn: string, given: Properties) => {
      const own = await one.check(urn, given);
      const theirs = await other.check(urn, given);
      expect(own.problems, JSON.stringify(given)).toHaveLength(theirs.problems.length);
      expect(own.inputs, JSON.stringify(given)).toEqual(theirs.inputs);
      return own.inputs;
    };
    // The cases want their states filled in at once: every set of inputs is checked beforehand.
    const placeholders = (urn: string, given: Properties) => fill.get(`${urn} ${JSON.stringify(given)}`) ?? given;
    for (const { urn, inputs } of eachCase(withoutMarks, (_urn, given) => given)) {
      fill.set(`${urn} ${JSON.stringify(inputs)}`, await filled(urn, inputs));
    }
    const judged: Record<string, string> = {};
    for (const { name, urn, state, inputs } of eachCase(withoutMarks, placeholders)) {
      const news = fill.get(`${urn} ${JSON.stringify(inputs)}`) ?? inputs;
      const own = await one.diff(urn, "id", state, news);
      const theirs = await other.diff(urn, "id", state, news);
      judged[name] = verdict(theirs.changes, theirs.deleteFirst);
      expect(verdict(own.changes, own.deleteFirst), name).toBe(judged[name]);
    }
    const golden = new URL("golden/docker-changes.json", import.meta.url);
    if (process.env.TUNESTACK_UPDATE_GOLDEN) await writeFile(golden, `${JSON.stringify(judged, null, 2)}\n`);
    expect(JSON.parse(await readFile(golden, "utf8"))).toEqual(judged);
  });

  it.each<Properties>([
    { name: "c", image: "i", nosuch: 1 },
    { name: "c", image: "i", restart: "maybe" },
    { name: "c", image: "i", memory: -3 },
    { name: "c", image: "i", healthcheck: { interval: "soon" } },
    { name: "c", image: "i", mounts: [{ type: "zip", target: "/x" }] },
    { name: "c", image: "i", bridge: "x" },
    { name: "c" },
  ])("refuse %j alike", async (given) => {
    const own = await one.check(containerUrn, given);
    const theirs = await other.check(containerUrn, given);
    expect([own.problems.length, theirs.problems.length]).toEqual([1, 1]);
  });

  it("tell the same of a container, of a network, of a volume and of an image", async () => {
    const resources: Readonly<Record<string, Properties>> = {
      "docker:index/container:Container": {
        name: `${prefix}-told`,
        image,
        command: ["sleep", "600"],
        ports: [{ internal: 80 }],
      },
      "docker:index/network:Network": { name: `${prefix}-told` },
      "docker:index/volume:Volume": { name: `${prefix}-told`, labels: [{ label: "a", value: "b" }] },
      "docker:index/remoteImage:RemoteImage": { name: image, keepLocally: true },
    };
    for (const [token, given] of Object.entries(resources)) {
      const urn = `urn:pulumi:dev::project::${token}::told`;
      const { inputs } = await one.check(urn, given);
      const made = await other.create(urn, inputs);
      try {
        const own = await one.read(urn, made.id, made.state, inputs);
        const theirs = await other.read(urn, made.id, made.state, inputs);
        expect(own.id).toBe(theirs.id);
        expect(told(own.state), token).toEqual(told(theirs.state));
      } finally {
        await other.remove(urn, made.id, made.state);
      }
    }
  });

  async function failures(given: Properties): Promise<readonly [string, string]> {
    const { inputs } = await one.check(containerUrn, given);
    const fails = async (plugin: Plugin): Promise<string> => {
      try {
        await plugin.create(containerUrn, inputs);
      } catch (error) {
        return String(error);
      } finally {
        await run("docker", ["rm", "--force", `${prefix}-fails`]);
      }
      throw new Error(`creating ${JSON.stringify(given)} was to fail`);
    };
    return [await fails(one), await fails(other)];
  }

  /** The engine's sentence within an error, without ids and without the words that each plugin puts around it. */
  function sentence(error: string): string {
    const found = /Unable to .*/.exec(error.replaceAll(/[0-9a-f]{64}/g, "<id>"));
    return found?.[0].trim() ?? error;
  }

  it("fail with the same words for a port taken", async () => {
    const port = await freePort();
    await docker(
      "run",
      "--detach",
      "--name",
      `${prefix}-holds`,
      "--publish",
      `127.0.0.1:${port}:1`,
      image,
      "sleep",
      "600",
    );
    try {
      const ports = [{ internal: 80, external: port, ip: "127.0.0.1" }];
      const [own, theirs] = await failures({ name: `${prefix}-fails`, image, command: ["sleep", "9"], ports });
      expect(sentence(own)).toContain("port is already allocated");
      expect(sentence(own)).toBe(sentence(theirs));
    } finally {
      await docker("rm", "--force", `${prefix}-holds`);
    }
  });

  it("fail with the same words for an image missing", async () => {
    const [own, theirs] = await failures({ name: `${prefix}-fails`, image: "127.0.0.1:9/nothing:here" });
    expect(sentence(own)).toContain(
      "Unable to create container with image 127.0.0.1:9/nothing:here: unable to pull image",
    );
    expect(sentence(own)).toBe(sentence(theirs));
  });

  it("fail with the same words for a name in use", async () => {
    await docker("run", "--detach", "--name", `${prefix}-taken`, image, "sleep", "600");
    try {
      const [own, theirs] = await failures({ name: `${prefix}-taken`, image, command: ["sleep", "9"] });
      expect(sentence(own)).toContain("is already in use by container");
      expect(sentence(own)).toBe(sentence(theirs));
    } finally {
      await docker("rm", "--force", `${prefix}-taken`);
    }
  });

  it("fail with the same words for a command that is not there", async () => {
    const [own, theirs] = await failures({ name: `${prefix}-fails`, image, command: ["/nowhere"] });
    expect(sentence(own)).toContain("Unable to start container");
    expect(sentence(own)).toBe(sentence(theirs));
  });
});

/** A state as far as it says anything: without marks, without what is empty, and without the order of sets. */
function told(state: Properties): Value {
  const bare = (value: Value): Value => {
    if (Array.isArray(value)) {
      return value.map((one: Value) => bare(one)).sort((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b)));
    }
    if (typeof value !== "object" || value === null) return value;
    const entries = Object.entries(withoutMarks(value as Properties)).map(([name, one]) => [name, bare(one)] as const);
    return Object.fromEntries(entries.filter(([, one]) => !says(one)).sort());
  };
  const { id: _id, ...rest } = withoutMarks(state);
  return bare(rest);
}

/** Whether a value says nothing: null, false, zero, or empty. */
function says(value: Value): boolean {
  if (value === null || value === "" || value === 0 || value === false) return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

/** What differs between any two containers, also between two made by the same plugin. */
const volatile = new Set(
  [
    "Id Created Pid StartedAt FinishedAt ResolvConfPath HostnamePath HostsPath LogPath Name Log Hostname",
    "ExecIDs SandboxID SandboxKey NetworkID EndpointID IPAddress MacAddress Gateway GraphDriver Aliases HostPort",
  ]
    .join(" ")
    .split(" "),
);

function steady(value: unknown, names: readonly string[]): unknown {
  if (Array.isArray(value)) {
    return value.map((one) => steady(one, names)).sort((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b)));
  }
  if (typeof value === "string") return names.reduce((text, name) => text.replaceAll(name, "<prefix>"), value);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([name]) => !volatile.has(name));
  const renamed = entries.map(([name, one]) => [name.replace(/^\d+\/tcp$/, "<port>/tcp"), steady(one, names)] as const);
  return Object.fromEntries(
    renamed.map(([name, one]) => [names.reduce((text, p) => text.replaceAll(p, "<prefix>"), name), one]).sort(),
  );
}

describe("stack by stack, the stand-in and the official Docker provider", () => {
  const projects: Project[] = [];
  let port: number;

  afterAll(async () => {
    for (const project of projects) await project.dispose(standIn);
  });

  async function bringUp(home: string, name: string): Promise<Project> {
    const project = await Project.create(home, name, { image, port: String(port) });
    projects.push(project);
    await project.up(home);
    return project;
  }

  const inspected = async (name: string) =>
    Promise.all([`${name}-server`, `${name}-job`].map(async (one) => steady(await inspect(one), [name, String(port)])));

  it("make the same containers, find nothing to do afterwards, and take over from each other", async () => {
    port = await freePort();
    const own = `${prefix}-own`;
    const theirs = `${prefix}-theirs`;
    const first = await bringUp(standIn, own);
    const ours = await inspected(own);
    expect(await first.up(standIn)).toMatch(/6 unchanged/);

    // The other way: what the stand-in made is the official provider's from here on, without a change.
    expect(await first.must(officialHome, "preview", "--diff", "--expect-no-changes")).toMatch(/6 unchanged/);
    await first.must(officialHome, "refresh", "--yes", "--skip-preview");
    expect(await first.up(officialHome)).toMatch(/6 unchanged/);
    expect(await first.must(officialHome, "destroy", "--yes", "--skip-preview")).toMatch(/- 6 deleted/);

    const second = await bringUp(officialHome, theirs);
    expect(await inspected(theirs)).toEqual(ours);
    expect(await second.up(officialHome)).toMatch(/6 unchanged/);
    expect(await second.must(standIn, "preview", "--diff", "--expect-no-changes")).toMatch(/6 unchanged/);
    await second.must(standIn, "refresh", "--yes", "--skip-preview");
    expect(await second.up(standIn)).toMatch(/6 unchanged/);
    await second.set(standIn, { memory: "96", env: "second" });
    expect(await second.up(standIn)).toMatch(/\+-1 replaced/);
    expect(await second.must(officialHome, "preview", "--diff", "--expect-no-changes")).toMatch(/6 unchanged/);
    expect(await second.must(standIn, "destroy", "--yes", "--skip-preview")).toMatch(/- 6 deleted/);
  });
});
