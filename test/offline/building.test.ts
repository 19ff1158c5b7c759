import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { buildFailure, progressOf, recipeFolder } from "../../offline/build.ts";
import { cached, exists, place, recipeHash } from "../../offline/cache.ts";
import { OfflineError } from "../../offline/errors.ts";
import { canBuild, isAtLeast } from "../../offline/go-toolchain.ts";
import { lastLines, run } from "../../offline/process.ts";
import { goRecipes, versions } from "../../offline/recipes.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "tunestack-building-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe("the cache of builds", () => {
  it("makes a folder once", async () => {
    let made = 0;
    const make = async (aside: string) => {
      made += 1;
      await writeFile(join(aside, "program"), "x");
    };
    const first = await cached(folder, "thing-1", make);
    expect(await cached(folder, "thing-1", make)).toBe(first);
    expect(made).toBe(1);
    expect(await readdir(folder)).toEqual(["thing-1"]);
  });

  it("leaves nothing of a build that failed", async () => {
    const fail = async (aside: string) => {
      await writeFile(join(aside, "half"), "x");
      throw new Error("compiler says no");
    };
    await expect(cached(folder, "thing-1", fail)).rejects.toThrow("compiler says no");
    expect(await readdir(folder)).toEqual([]);
  });

  it("removes what an interrupted build left, and not what another process is making", async () => {
    const gone = 2 ** 30; // more than any kernel gives
    await mkdir(join(folder, `.making-${gone}-abc`));
    await mkdir(join(folder, `.making-${process.ppid}-abc`));
    await cached(folder, "thing-1", async () => {});
    expect((await readdir(folder)).sort()).toEqual([`.making-${process.ppid}-abc`, "thing-1"]);
  });

  it("takes the winner's folder when two make the same", async () => {
    const both = await Promise.all([
      cached(folder, "thing-1", (aside) => writeFile(join(aside, "program"), "a")),
      cached(folder, "thing-1", (aside) => writeFile(join(aside, "program"), "b")),
    ]);
    expect(both[0]).toBe(both[1]);
    expect(await readdir(folder)).toEqual(["thing-1"]);
  });

  it("puts a file in place of another, whole", async () => {
    await writeFile(join(folder, "a"), "new");
    await mkdir(join(folder, "bin"));
    await writeFile(join(folder, "bin", "b"), "old");
    await place(join(folder, "a"), join(folder, "bin", "b"));
    expect(await readFile(join(folder, "bin", "b"), "utf8")).toBe("new");
    expect((await stat(join(folder, "bin", "b"))).ino).toBe((await stat(join(folder, "a"))).ino);
    expect(await readdir(join(folder, "bin"))).toEqual(["b"]);
  });

  it("gives another name for another recipe: a word, a file's name, a file's content", async () => {
    await writeFile(join(folder, "go.mod"), "module a");
    const first = await recipeHash(["linux"], [folder]);
    expect(await recipeHash(["linux"], [folder])).toBe(first);
    expect(await recipeHash(["darwin"], [folder])).not.toBe(first);
    await writeFile(join(folder, "go.mod"), "module b");
    const second = await recipeHash(["linux"], [folder]);
    expect(second).not.toBe(first);
    await writeFile(join(folder, "go.sum"), "");
    expect(await recipeHash(["linux"], [folder])).not.toBe(second);
  });
});

describe("the recipes", () => {
  it("pin the versions of the npm packages whose plugins they make", async () => {
    const json = JSON.parse(await readFile(new URL("../../package.json", import.meta.url), "utf8")) as {
      dependencies: Record<string, string>;
    };
    expect(json.dependencies["@pulumi/pulumi"]).toBe(versions.pulumi);
    expect(json.dependencies["@pulumi/docker"]).toBe(versions.dockerPlugin);
    expect(json.dependencies["@pulumi/gcp"]).toBe(versions.gcpPlugin);
    expect(json.dependencies["@pulumi/kubernetes"]).toBe(versions.kubernetesPlugin);
    expect(json.dependencies["@pulumi/docker-build"]).toBe(versions.dockerBuildPlugin);
  });

  it.each(Object.values(goRecipes))(
    "$what: its module names the version and has the sums of all it takes",
    async (recipe) => {
      const module = await readFile(join(recipe.module, "go.mod"), "utf8");
      for (const path of Object.values(recipe.programs)) {
        expect(module).toMatch(new RegExp(`^(tool |\\t)${path}\n`, "m"));
      }
      const repositories = Object.values(recipe.programs).map((path) =>
        path.split("/").slice(0, path.startsWith("github.com/") ? 3 : 2),
      );
      const named = repositories.map((parts) => `${parts.join("/")}[\\w/]* v${recipe.version.replaceAll(".", "\\.")} `);
      expect(module).toMatch(new RegExp(named.join("|")));
      expect(await exists(join(recipe.module, "go.sum"))).toBe(true);
      expect(await recipeFolder(recipe)).toMatch(new RegExp(`^${recipe.what}-${recipe.version}-[0-9a-f]{12}$`));
    },
  );
});

describe("the Go toolchain", () => {
  it("is good from the version that the modules ask for, or when it fetches that one itself", () => {
    expect(canBuild("go1.26.0", "local")).toBe(true);
    expect(canBuild("go1.27.3", "local")).toBe(true);
    expect(canBuild("go1.25.9", "local")).toBe(false);
    expect(canBuild("go1.25.9", "auto")).toBe(true);
    expect(canBuild("go1.19.8", "")).toBe(false);
    expect(canBuild("", "")).toBe(false);
    expect(isAtLeast(versions.go, versions.goAtLeast)).toBe(true);
  });
});

describe("a build that fails", () => {
  it.each([
    ["write /x: no space left on device", "disk"],
    ["verifying m@v1: checksum mismatch", "broken"],
    ['Get "https://proxy/": dial tcp: lookup proxy: no such host', "network"],
    ["x509: certificate signed by unknown authority", "network"],
    ["mkdir /x: permission denied", "rights"],
    ["x.go:1:2: undefined: y", "compile"],
  ])("%s → %s", (output, cause) => {
    const failure = buildFailure(output);
    expect(failure.cause).toBe(cause);
    expect(failure.remedy).not.toBe("");
  });

  it("is told as what, why, remedy and log, on lines of their own", () => {
    const error = new OfflineError({
      cause: "compile",
      what: "buildx 0.35.0 could not be built",
      why: "a.go:1: no\nb.go:2: no",
      remedy: "read the log",
      log: "/cache/buildx.log",
    });
    expect(error.message).toBe(
      "buildx 0.35.0 could not be built\n  why: a.go:1: no\n       b.go:2: no\n  do:  read the log\n  log: /cache/buildx.log",
    );
  });
});

describe("progress", () => {
  it("counts modules, then packages, at most once a second", () => {
    const told: string[] = [];
    let now = 0;
    const line = progressOf(
      "buildx",
      3,
      (message) => told.push(message),
      () => now,
    );
    line("go: downloading a v1.0.0");
    line("go: downloading b v1.0.0");
    now = 1000;
    line("internal/abi");
    line("# some remark");
    now = 2500;
    line("fmt");
    expect(told).toEqual([
      "building buildx: 1 modules fetched",
      "building buildx: 1 of about 3 packages",
      "building buildx: 2 of about 3 packages",
    ]);
  });

  it("keeps the last lines that say something", () => {
    expect(lastLines("a\n\n b \n\nc\n", 2)).toBe(" b\nc");
  });
});

describe("running a command", () => {
  it("gives status and output, tells lines, writes the log, and never throws", async () => {
    const lines: string[] = [];
    const log = join(folder, "log");
    const ended = await run("sh", ["-c", "echo one; echo two >&2; exit 3"], {
      log,
      onLine: (line) => lines.push(line),
    });
    expect(ended.code).toBe(3);
    expect(lines.sort()).toEqual(["one", "two"]);
    expect((await readFile(log, "utf8")).split("\n").sort()).toEqual(["", "one", "two"]);
    expect((await run(join(folder, "nothing-here"), [])).code).toBe(127);
  });
});
