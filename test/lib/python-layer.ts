import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DEFAULT_STACK, PROJECT_DIR } from "../../scripts/lib/project.ts";
import { setUp } from "../../scripts/lib/setup/setup.ts";
import { readInputs } from "../../scripts/lib/stack.ts";
import { planImage } from "../../stacks/plan/image.ts";
import { chooseAccelerator } from "../../stacks/plan/plan.ts";
import { renderBoot } from "../../stacks/targets/gcp-vm/render-boot.ts";
import { BOOT_OPTIONS } from "./boot.ts";
import type { Ended } from "./children.ts";
import { readJUnit } from "./junit.ts";
import type { Layer, Record } from "./layers.ts";
import { buildPythonImage, inPythonImage } from "./python-image.ts";
import { crashed, type SuiteResult } from "./results.ts";
import { shellScripts } from "./tracked.ts";

/** The training package: lint, types and tests, in the image that it runs in. */
export const PYTHON_LAYER: Layer = {
  name: "python",
  headline: "the training package's lint, types and tests, its Dockerfile, its lock files, shell scripts",
  run: async (record) => {
    await setUp(DEFAULT_STACK);
    const inputs = readInputs(DEFAULT_STACK);
    const image = planImage(inputs, chooseAccelerator(inputs));
    const build = await buildPythonImage(image);
    record(oneTest("image stage test", build));
    if (build.code !== 0) return;

    record(oneTest("ruff check", await inPythonImage(["ruff", "check", "--no-fix", "."], { network: false })));
    record(oneTest("ruff format", await inPythonImage(["ruff", "format", "--check", "."], { network: false })));
    record(oneTest("mypy", await inPythonImage(["mypy"], { network: false })));
    record(oneTest("hadolint", await inPythonImage(["hadolint", "Dockerfile"], { network: false })));
    record(await shellcheck());
    record(lockResult(await inPythonImage(["sh", "lock.sh", "--check"], { network: true })));
    record(await pytest("pytest", "/package/tests"));
    await agentOfTheVm(record);
  },
};

/** The agent that runs on a GPU VM: Python of the standard library, in the repository's own folders. */
async function agentOfTheVm(record: Record): Promise<void> {
  const folders = [AGENT, AGENT_TESTS];
  const check = async (name: string, command: readonly string[]) =>
    record(oneTest(name, await inPythonImage(command, { network: false, mounts: VM_MOUNTS })));
  await check("ruff check, VM", ["ruff", "check", "--no-fix", ...folders]);
  await check("ruff format, VM", ["ruff", "format", "--check", ...folders]);
  await check("mypy, VM", ["mypy", "--config-file=", "--strict", AGENT]);
  record(await pytest("pytest, VM", AGENT_TESTS));
}

const AGENT = "/project/stacks/targets/gcp-vm/vm";
const AGENT_TESTS = "/project/test/vm";
const VM_MOUNTS = Object.fromEntries(
  ["stacks/targets/gcp-vm/vm", "test/vm", "images/qlora/pyproject.toml"].map((path) => [
    `/project/${path}`,
    join(PROJECT_DIR, path),
  ]),
);

function oneTest(name: string, { code, output, seconds }: Ended): SuiteResult {
  return { name, passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: [], seconds, output };
}

async function shellcheck(): Promise<SuiteResult> {
  const scripts = shellScripts();
  const folder = mkdtempSync(join(tmpdir(), "tunestack-shellcheck-"));
  try {
    // What a VM runs at its start is rendered, and in no file.
    const rendered = join(folder, "boot.sh");
    writeFileSync(rendered, renderBoot(BOOT_OPTIONS));
    chmodSync(folder, 0o755);
    const mounts = {
      ...Object.fromEntries(scripts.map((file) => [`/scripts/${file}`, join(PROJECT_DIR, file)])),
      "/scripts/boot.sh": rendered,
    };
    const paths = Object.keys(mounts);
    return oneTest("shellcheck", await inPythonImage(["shellcheck", ...paths], { network: false, mounts }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The lock files are compared with what the index says today, which takes a network. */
export function lockResult(ended: Ended): SuiteResult {
  const unreachable = /Failed to fetch|error sending request|dns error|Connection refused|timed out|tcp connect error/i;
  if (ended.code !== 0 && unreachable.test(ended.output)) {
    const reason = "the index of Python packages does not answer; with a network, or image.pypiMirror, it is compared";
    return {
      name: "lock files",
      passed: 0,
      failed: 0,
      skipped: [{ test: "images/qlora/lock.sh --check", reason }],
      seconds: ended.seconds,
      output: "",
    };
  }
  return oneTest("lock files", ended);
}

async function pytest(name: string, folder: string): Promise<SuiteResult> {
  const out = mkdtempSync(join(tmpdir(), "tunestack-pytest-"));
  // The container's user is not the one who runs this.
  chmodSync(out, 0o777);
  try {
    // A file at a time in each process, since tests of one file share what they made.
    const parallel = ["--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile"];
    const command = [
      "pytest",
      `--rootdir=${folder}`,
      folder,
      "--junitxml=/out/pytest.xml",
      "-p",
      "no:cacheprovider",
      ...parallel,
    ];
    const { code, output, seconds } = await inPythonImage(command, { network: false, out, mounts: VM_MOUNTS });
    const file = join(out, "pytest.xml");
    const counts = existsSync(file) ? readJUnit(readFileSync(file, "utf8")) : undefined;
    if (counts === undefined) return crashed(name, seconds, output);
    const failed = counts.failed === 0 && code !== 0 ? 1 : counts.failed;
    return { ...counts, name, failed, seconds, output };
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
}
