import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { buildCommand, failedStage } from "../../scripts/lib/build.ts";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { endChildren, runChild } from "../lib/children.ts";
import { readJUnit } from "../lib/junit.ts";
import { type Layer, runLayers } from "../lib/layers.ts";
import { lockResult } from "../lib/python-layer.ts";
import { closingText, type SuiteResult } from "../lib/results.ts";

function suite(changes: Partial<SuiteResult>): SuiteResult {
  return { name: "suite", passed: 0, failed: 0, skipped: [], seconds: 0, output: "", ...changes };
}

async function run(layers: readonly Layer[]): Promise<{ code: number; lines: readonly string[]; text: string }> {
  const printed: string[] = [];
  const code = await runLayers(layers, (text) => printed.push(text));
  const text = printed.join("\n");
  return { code, text, lines: text.split("\n") };
}

function layer(name: string, run: Layer["run"]): Layer {
  return { name, headline: `what ${name} does`, run };
}

describe("runLayers", () => {
  test("ends with the counts of all suites alone on the last line", async () => {
    const { code, lines } = await run([
      layer("one", async (record) => {
        record(suite({ passed: 2 }));
        record(suite({ passed: 1 }));
      }),
      layer("two", async (record) => record(suite({ passed: 3 }))),
    ]);
    expect(lines.at(-1)).toBe("6 passed, 0 failed, 0 skipped");
    expect(code).toBe(0);
  });

  test("a failure shows the suite's output in full, and later layers run all the same", async () => {
    const output = "line 1\nline 2: expected 1 to be 2";
    const { code, lines, text } = await run([
      layer("one", async (record) => record(suite({ passed: 1, failed: 2, output }))),
      layer("two", async (record) => record(suite({ passed: 3, output: "nothing to see" }))),
    ]);
    expect(text).toContain(output);
    expect(text).not.toContain("nothing to see");
    expect(lines.at(-1)).toBe("4 passed, 2 failed, 0 skipped");
    expect(code).toBe(1);
  });

  test("a layer that crashes counts as one failed, keeps what it counted before, and loses nothing of the others", async () => {
    const { code, lines, text } = await run([
      layer("one", async (record) => record(suite({ passed: 5 }))),
      layer("two", async (record) => {
        record(suite({ passed: 2 }));
        throw new Error("the engine went away");
      }),
      layer("three", async (record) => record(suite({ passed: 1 }))),
    ]);
    expect(lines.at(-1)).toBe("8 passed, 1 failed, 0 skipped");
    expect(text).toContain("two could not be run");
    expect(text).toContain("the engine went away");
    expect(code).toBe(1);
  });

  test("skipped tests are listed above the last line, by their reasons", () => {
    const skipped = [
      { test: "official.test.ts › same stack", reason: "no official plugin; npm start installs it" },
      { test: "gpu.test.ts › trains", reason: "no GPU; run it on one" },
      { test: "official.test.ts › same errors", reason: "no official plugin; npm start installs it" },
    ];
    expect(closingText([suite({ name: "quick tests", passed: 1, skipped })])).toBe(
      [
        "skipped:",
        "  no official plugin; npm start installs it",
        "    quick tests: official.test.ts › same stack",
        "    quick tests: official.test.ts › same errors",
        "  no GPU; run it on one",
        "    quick tests: gpu.test.ts › trains",
        "",
        "1 passed, 0 failed, 3 skipped",
      ].join("\n"),
    );
  });

  test("skipped tests alone do not fail a run", async () => {
    const skipped = [{ test: "a", reason: "b" }];
    const { code } = await run([layer("one", async (record) => record(suite({ passed: 1, skipped })))]);
    expect(code).toBe(0);
  });
});

describe("readJUnit", () => {
  const report = (cases: string) =>
    `<?xml version="1.0"?><testsuites><testsuite name="pytest">${cases}</testsuite></testsuites>`;

  test("counts what passed, failed, erred and was skipped with its reason", () => {
    const xml = report(
      [
        '<testcase classname="tests.test_a" name="test_one" time="0.1" />',
        '<testcase classname="tests.test_a" name="test_two[a&gt;b]" time="0.1"><failure message="x">E</failure></testcase>',
        '<testcase classname="tests.test_a" name="test_three"><failure>E</failure><error>E</error></testcase>',
        '<testcase classname="" name="tests.test_broken"><error message="collection failure">E</error></testcase>',
        '<testcase classname="tests.test_b" name="test_gpu"><skipped type="pytest.skip" message="no GPU: &quot;run&quot; it on one">x</skipped></testcase>',
        '<testcase classname="tests.test_b" name="test_last"><system-out>failure</system-out></testcase>',
      ].join("\n"),
    );
    expect(readJUnit(xml)).toEqual({
      passed: 2,
      failed: 3,
      skipped: [{ test: "tests.test_b.test_gpu", reason: 'no GPU: "run" it on one' }],
    });
  });

  test("what is no report has no counts", () => {
    expect(readJUnit("")).toBeUndefined();
    expect(readJUnit("killed")).toBeUndefined();
  });
});

describe("runChild", () => {
  const node = async (source: string) => await runChild(process.execPath, ["-e", source], { cwd: PROJECT_DIR });

  test("gives exit code and both outputs", async () => {
    const ended = await node('console.log("out"); console.error("err"); process.exit(3)');
    expect(ended.code).toBe(3);
    expect(ended.output).toMatch(/out/);
    expect(ended.output).toMatch(/err/);
  });

  test("a program that is not there, and one that was killed, are failures", async () => {
    expect((await runChild("/absent/program", [], { cwd: PROJECT_DIR })).code).toBe(127);
    expect((await node('process.kill(process.pid, "SIGKILL")')).code).toBe(128);
  });

  test("what runs is ended with all that it started", async () => {
    const source = `
      const { spawn } = require("node:child_process");
      const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
      console.log(child.pid);
      setInterval(() => {}, 1000);`;
    const folder = mkdtempSync(join(tmpdir(), "tunestack-child-"));
    try {
      const file = join(folder, "pid");
      const ended = node(
        source.replace(
          "console.log(child.pid)",
          `require("node:fs").writeFileSync(${JSON.stringify(file)}, String(child.pid))`,
        ),
      );
      const pid = await written(file);
      await endChildren();
      expect((await ended).code).toBe(128);
      await expect.poll(() => isRunning(pid)).toBe(false);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

async function written(file: string): Promise<number> {
  for (;;) {
    try {
      const text = readFileSync(file, "utf8");
      if (text !== "") return Number(text);
    } catch {
      // Not yet.
    }
    await sleep(20);
  }
}

/** Whether a process runs; one that ended and was not waited for does not. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

describe("vitest's results", () => {
  let folder: string;
  beforeEach(() => {
    // Below the project, where vitest's own modules are found.
    mkdirSync(join(PROJECT_DIR, "test-results"), { recursive: true });
    folder = mkdtempSync(join(PROJECT_DIR, "test-results", "runner-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  test("tell passed, failed and skipped with its reason, and count files that cannot be loaded", async () => {
    writeFileSync(
      join(folder, "a.test.ts"),
      `import { expect, test } from "vitest";
       test("one", () => expect(1).toBe(1));
       test("two", () => expect(1).toBe(2));
       test("three", (context) => context.skip("no GPU; run it on one"));
       test.skip("four", () => {});`,
    );
    writeFileSync(join(folder, "vitest.config.mjs"), "export default {};");
    writeFileSync(join(folder, "b.test.ts"), 'import "./absent.ts";');
    const file = join(folder, "results.json");
    const { code } = await runChild(
      process.execPath,
      [
        join(PROJECT_DIR, "node_modules/vitest/vitest.mjs"),
        ...["run", "--reporter", join(PROJECT_DIR, "test/lib/vitest-reporter.ts")],
      ],
      { cwd: folder, environment: { TUNESTACK_TEST_RESULTS: file } },
    );
    expect(code).toBe(1);
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual({
      passed: 1,
      failed: 2,
      skipped: [
        { test: "a.test.ts › three", reason: "no GPU; run it on one" },
        { test: "a.test.ts › four", reason: "no reason given" },
      ],
    });
  });
});

describe("the Python layer", () => {
  test("builds the stage test with the stack's own base, mirrors and certificate", () => {
    const image = {
      base: "tunestack/base:x",
      cudaVersion: "12.6",
      pythonSet: "cpu",
      stages: [],
      pypiMirror: "https://mirror.example/simple",
      aptMirror: undefined,
      caCertificate: join(PROJECT_DIR, "package.json"),
    } as const;
    const command = buildCommand(image, "test", ["--load", "--tag", "tunestack-test/python"]).join(" ");
    expect(command).toContain("buildx build --builder default");
    expect(command).toContain("--target test --load --tag tunestack-test/python");
    expect(command).toContain("--build-arg BASE_IMAGE=tunestack/base:x --build-arg PYTHON_SET=cpu");
    expect(command).toContain("--build-arg PYPI_MIRROR=https://mirror.example/simple");
    expect(command).not.toContain("APT_MIRROR");
    expect(command).toMatch(
      /--build-arg CA_CERTIFICATE_SHA256=[0-9a-f]{64} --secret id=ca_certificate,src=\S+ \S+images\/qlora$/,
    );
  });

  test("the stage whose build failed is found in what Pulumi says", () => {
    const said =
      " +  docker-build:index:Image tunestack-image-dev **creating failed** error: exit status 1\n    error: update failed";
    expect(failedStage(said)).toBe("dev");
    expect(failedStage("docker:index:Container tunestack-jupyter **creating failed** error: conflict")).toBeUndefined();
  });

  test("skips the comparison of lock files with the reason where there is no network, and fails on a difference", () => {
    const unreachable = lockResult({
      code: 2,
      output: "error: Failed to fetch: `https://mirror.example/simple/zod/`",
      seconds: 1,
    });
    expect(unreachable).toMatchObject({ passed: 0, failed: 0 });
    expect(unreachable.skipped[0]?.reason).toMatch(/does not answer/);
    expect(lockResult({ code: 1, output: "lock.sh: requirements.lock is out of date", seconds: 1 })).toMatchObject({
      failed: 1,
      skipped: [],
    });
    expect(lockResult({ code: 0, output: "", seconds: 1 })).toMatchObject({ passed: 1, failed: 0 });
  });
});
