import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run } from "../../offline/process.ts";
import { docker, freePort, inspect, Project, standInHome } from "./lib/project.ts";

const prefix = `tunestack-test-${process.pid}`;

/** A step depends on the ones before it: they are the life of one stack. */
describe("the language host and the Docker provider that stand in", () => {
  let folder: string;
  let home: string;
  let image: string;
  let project: Project;
  let port: number;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "tunestack-home-"));
    ({ home, image } = await standInHome(folder));
    port = await freePort();
    project = await Project.create(home, prefix, { image, port: String(port) });
    await project.must(home, "config", "set", "--secret", "token", "hush-hush");
  });

  afterAll(async () => {
    await project?.dispose(home);
    await rm(folder, { recursive: true, force: true });
  });

  it("preview a stack without making any of it", async () => {
    const output = await project.must(home, "preview", "--diff");
    expect(output).toContain("the program runs");
    expect(output).toMatch(/\+ 6 to create/);
    expect(output).not.toContain("hush-hush");
    expect((await run("docker", ["inspect", `${prefix}-server`])).code).not.toBe(0);
  });

  it("bring it up, healthy where it was told to wait, and keep the secret", async () => {
    const output = await project.up(home);
    expect(output).toMatch(/\+ 6 created/);
    const server = await inspect(`${prefix}-server`);
    expect(server.State).toMatchObject({ Running: true, Health: { Status: "healthy" } });
    expect(server.HostConfig).toMatchObject({
      ReadonlyRootfs: true,
      CapDrop: ["ALL"],
      Memory: 64 * 1024 * 1024,
      NanoCpus: 500_000_000,
      PortBindings: { [`${port}/tcp`]: [{ HostIp: "127.0.0.1", HostPort: String(port) }] },
    });
    expect(JSON.stringify(server.Config)).toContain("TOKEN=hush-hush");
    expect(output + (await project.must(home, "stack", "export"))).not.toContain("hush-hush");
  });

  it("find nothing to do the second time, although the job has ended", async () => {
    expect(await project.up(home)).toMatch(/6 unchanged/);
    expect((await inspect(`${prefix}-job`)).State).toMatchObject({ Running: false, ExitCode: 3 });
    expect(await project.must(home, "preview", "--diff", "--expect-no-changes")).toMatch(/6 unchanged/);
    await project.must(home, "refresh", "--yes", "--skip-preview");
    expect(await project.up(home)).toMatch(/6 unchanged/);
    expect((await inspect(`${prefix}-job`)).State).toMatchObject({ Running: false });
  });

  it("change a limit in the running container", async () => {
    const before = await inspect(`${prefix}-server`);
    await project.set(home, { memory: "96" });
    expect(await project.up(home)).toMatch(/~ 1 updated/);
    const after = await inspect(`${prefix}-server`);
    expect(after.Id).toBe(before.Id);
    expect(after.HostConfig).toMatchObject({ Memory: 96 * 1024 * 1024 });
    expect(await project.up(home)).toMatch(/6 unchanged/);
  });

  it("replace the container for what cannot be changed in it, and touch nothing else", async () => {
    const before = await inspect(`${prefix}-server`);
    const job = await inspect(`${prefix}-job`);
    await docker("run", "--rm", "--volume", `${prefix}-data:/data`, image, "sh", "-c", "echo kept > /data/file");
    await project.set(home, { env: "second" });
    expect(await project.up(home)).toMatch(/\+-1 replaced/);
    const after = await inspect(`${prefix}-server`);
    expect(after.Id).not.toBe(before.Id);
    expect(JSON.stringify(after.Config)).toContain("LABEL=second");
    expect((await inspect(`${prefix}-job`)).Id).toBe(job.Id);
    expect(await docker("exec", `${prefix}-server`, "cat", "/data/file")).toBe("kept\n");
  });

  it("see by refresh what was stopped or removed outside, and mend it", async () => {
    await docker("stop", "--time", "0", `${prefix}-server`);
    await docker("rm", `${prefix}-job`);
    const refreshed = await project.must(home, "refresh", "--yes", "--skip-preview");
    expect(refreshed).toMatch(/~ 1 updated/);
    expect(refreshed).toMatch(/- 1 deleted/);
    await project.up(home);
    expect((await inspect(`${prefix}-server`)).State).toMatchObject({ Running: true });
    await inspect(`${prefix}-job`);
    await project.must(home, "refresh", "--yes", "--skip-preview");
    expect(await project.up(home)).toMatch(/6 unchanged/);
  });

  it("take over a container by import", async () => {
    const { Id: id } = await inspect(`${prefix}-job`);
    const words = ["import", "docker:index/container:Container", "imported", String(id)];
    const output = await project.must(home, ...words, "--yes", "--protect=false", "--generate-code=false");
    expect(output).toMatch(/= 1 imported/);
    await project.must(
      home,
      "state",
      "delete",
      "--yes",
      "urn:pulumi:dev::tunestack-stand-in-test::docker:index/container:Container::imported",
    );
  });

  it("leave no half-made container when its port is taken, tell so, and go on once it is free", async () => {
    const taken = await freePort();
    const other = `${prefix}-other`;
    await docker("run", "--detach", "--name", other, "--publish", `127.0.0.1:${taken}:1`, image, "sleep", "600");
    try {
      await project.set(home, { external: String(taken) });
      const output = await project.mustFail(home, "up", "--yes", "--skip-preview");
      expect(output).toContain("Unable to start container: Error response from daemon: driver failed programming");
      expect(output).toContain("port is already allocated");
      expect((await run("docker", ["inspect", `${prefix}-server`])).code).not.toBe(0);
    } finally {
      await docker("rm", "--force", other);
    }
    await project.up(home);
    expect((await inspect(`${prefix}-server`)).State).toMatchObject({ Running: true });
  });

  it("clear away what an interrupted creation left, but nobody's running container", async () => {
    await docker("rm", "--force", `${prefix}-job`);
    await project.must(home, "refresh", "--yes", "--skip-preview");
    await docker("create", "--name", `${prefix}-job`, image, "sh");
    await project.up(home);
    expect((await inspect(`${prefix}-job`)).State).toMatchObject({ ExitCode: 3 });

    await docker("rm", "--force", `${prefix}-job`);
    await project.must(home, "refresh", "--yes", "--skip-preview");
    await docker("run", "--detach", "--name", `${prefix}-job`, image, "sleep", "600");
    const output = await project.mustFail(home, "up", "--yes", "--skip-preview");
    expect(output).toContain(`The container name "/${prefix}-job" is already in use`);
    expect((await inspect(`${prefix}-job`)).State).toMatchObject({ Running: true });
    await docker("rm", "--force", `${prefix}-job`);
    await project.up(home);
  });

  it("show a program's own failure without a word of their own", async () => {
    await project.set(home, { fail: "true" });
    const output = await project.mustFail(home, "preview");
    expect(output).toContain("error: the program says what is wrong");
    expect(output).not.toContain("exited with");
    await project.must(home, "config", "rm", "fail");
  });

  it("destroy everything but the volume that is retained", async () => {
    expect(await project.must(home, "destroy", "--yes", "--skip-preview")).toMatch(/- 6 deleted/);
    expect((await run("docker", ["inspect", `${prefix}-server`])).code).not.toBe(0);
    expect((await run("docker", ["network", "inspect", `${prefix}-network`])).code).not.toBe(0);
    expect((await run("docker", ["volume", "inspect", `${prefix}-data`])).code).toBe(0);
    expect((await run("docker", ["image", "inspect", image])).code).toBe(0);
    await project.up(home);
    expect(await docker("exec", `${prefix}-server`, "cat", "/data/file")).toBe("kept\n");
  });
});
