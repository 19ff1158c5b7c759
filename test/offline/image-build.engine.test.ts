import { mkdtemp, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ensureBuildx, ensureDockerBuildPlugin } from "../../offline/setup.ts";
import { closed, docker, Project, standInHome } from "./lib/project.ts";

const prefix = `tunestack-test-image-${process.pid}`;

describe("the docker-build plugin and buildx that are built from their modules", () => {
  let folder: string;
  let home: string;
  let project: Project;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "tunestack-home-"));
    const made = await standInHome(folder);
    home = made.home;
    const options = {
      pulumiHome: home,
      cacheDir: join(homedir(), ".cache", "tunestack"),
      report: () => {},
      reachable: closed,
    };
    await ensureDockerBuildPlugin(options);
    const { dockerConfig } = await ensureBuildx(options);
    project = await Project.create(home, prefix, { image: made.image }, "image-project");
    if (dockerConfig !== undefined) project.environment = { DOCKER_CONFIG: dockerConfig };
  });

  afterAll(async () => {
    await project?.dispose(home);
    await docker("rmi", "--force", `${prefix}:1`).catch(() => "");
    await rm(folder, { recursive: true, force: true });
  });

  it("build an image with the engine's own BuildKit, and nothing the second time", async () => {
    expect(await project.up(home)).toMatch(/\+ 2 created/);
    expect(await docker("run", "--rm", `${prefix}:1`, "cat", "/result")).toBe("built\n");
    expect(await project.up(home)).toMatch(/2 unchanged/);
  });

  it("report their own version, so that Pulumi warns of nothing", async () => {
    expect(await project.must(home, "preview")).not.toContain("warning");
  });
});
