import { existsSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  ensureBaseImage,
  ensureBuildx,
  ensureDockerBuildPlugin,
  ensureDockerProvider,
  ensureGcpPlugin,
  ensureKubernetesPlugin,
  ensureLanguageHost,
  ensurePulumiCli,
  OfflineError,
  officialReachable,
  type SetupOptions,
  versions,
} from "../../../offline/setup.ts";
import { engineSettings } from "../../../stacks/settings/engine.ts";
import type { StackInputs } from "../../../stacks/settings/load.ts";
import { type MachineFacts, machineFile, readMachineFacts } from "../../../stacks/settings/machine.ts";
import { SettingsError } from "../../../stacks/settings/problems.ts";
import { engineClient } from "../../../stacks/targets/docker/engine.ts";
import { diskCheck } from "../doctor/machine-checks.ts";
import { hasTrainingImage, readDisk, readEngineFacts } from "../doctor/read-machine.ts";
import { EXIT, machineError, UserError } from "../errors.ts";
import { takeCloudSecrets } from "../gcloud/secrets.ts";
import { CACHE_DIR, PROJECT_DIR, PULUMI_HOME } from "../project.ts";
import { readInputs } from "../stack.ts";
import { step } from "../steps.ts";
import { ensureEngine } from "./engine.ts";
import { ensureGpu } from "./gpu.ts";
import { ensureSecrets } from "./secrets.ts";
import { readSystem } from "./system.ts";

/** Registry of the base image and of the W&B server. */
const REGISTRY = "registry-1.docker.io";

/** Brings everything that a stack needs onto this machine; what is there is not done again. */
export async function setUp(stack: string): Promise<MachineFacts> {
  try {
    const system = readSystem();
    const inputs = readInputs(stack);
    // Asked while the rest is looked at: a network that drops what it does not let through lets one wait for seconds.
    const registryAnswers = officialReachable("registry");
    await step("Docker engine", (report) => ensureEngine(system, engineSettings(inputs).host, report));
    const accelerator = await step("GPU", (report) => ensureGpu(system, report));
    await step("disk", async () => ({ said: await checkDisk(inputs), value: undefined }));
    await installTools();
    const facts = await findBase(accelerator, registryAnswers);
    const taken = await takeCloudSecrets(inputs);
    if (taken > 0) await step("secrets of the cloud", async () => ({ said: "brought here", value: undefined }));
    const made = ensureSecrets(stack);
    if (made > 0) await step("passphrase and tokens", async () => ({ said: "made, in .tunestack", value: undefined }));
    writeFileSync(machineFile(PROJECT_DIR), `${JSON.stringify(facts, null, 2)}\n`);
    return facts;
  } catch (error) {
    if (error instanceof OfflineError) throw explained(error);
    throw error;
  }
}

/** Pulumi with its plugins, and the passphrase and tokens that stacks are declared with: what a preview needs, and no engine. */
export async function setUpPulumi(stacks: readonly string[]): Promise<void> {
  try {
    for (const stack of stacks) {
      const inputs = readableInputs(stack);
      if (inputs !== undefined) await takeCloudSecrets(inputs);
      ensureSecrets(stack);
    }
    await installTools();
  } catch (error) {
    if (error instanceof OfflineError) throw explained(error);
    throw error;
  }
}

/** A stack with wrong settings is told of where it is previewed, and holds the others up no more than that. */
function readableInputs(stack: string): StackInputs | undefined {
  try {
    return readInputs(stack);
  } catch (error) {
    if (error instanceof SettingsError) return undefined;
    throw error;
  }
}

const TOOLS: readonly (readonly [string, (options: SetupOptions) => Promise<{ readonly origin: string }>])[] = [
  ["Pulumi CLI", ensurePulumiCli],
  ["Node language host", ensureLanguageHost],
  ["plugin docker-build", ensureDockerBuildPlugin],
  ["plugin docker", ensureDockerProvider],
  ["plugin gcp", ensureGcpPlugin],
  ["plugin kubernetes", ensureKubernetesPlugin],
  ["buildx", ensureBuildx],
];

/** Pulumi with its plugins, and buildx: a line each while they are brought here, one for all once they are there. */
async function installTools(): Promise<void> {
  const options = (report: SetupOptions["report"]): SetupOptions => ({
    pulumiHome: PULUMI_HOME,
    cacheDir: CACHE_DIR,
    report,
  });
  if (await toolsAreThere()) {
    await step("Pulumi and plugins", async (report) => {
      for (const [title, ensure] of TOOLS) {
        report(title);
        await ensure(options(report));
      }
      return { said: "there", value: undefined };
    });
    return;
  }
  for (const [title, ensure] of TOOLS) {
    await step(title, async (report) => ({
      said: originText((await ensure(options(report))).origin),
      value: undefined,
    }));
  }
  writeFileSync(TOOLS_STAMP, versionsText());
}

/** Says which versions were brought here as a whole, so that the next start tells it in one line. */
const TOOLS_STAMP = join(PULUMI_HOME, "tools");

const versionsText = () => `${JSON.stringify(versions)}\n`;

async function toolsAreThere(): Promise<boolean> {
  return (await readFile(TOOLS_STAMP, "utf8").catch(() => "")) === versionsText();
}

function originText(origin: string): string {
  switch (origin) {
    case "present":
      return "there";
    case "official":
      return "downloaded";
    default:
      return "made here, its download host does not answer";
  }
}

/** Where the base image comes from: a registry that answers, or the distribution's packages. */
async function findBase(accelerator: "cuda" | "cpu", registryAnswers: Promise<boolean>): Promise<MachineFacts> {
  const checkedAt = new Date().toISOString();
  return await step("base image", async (report) => {
    if (await registryAnswers) {
      return {
        said: "from its registry",
        value: { schema: 1, checkedAt, accelerator, unreachableRegistries: [] } satisfies MachineFacts,
      };
    }
    const before = readMachineFacts(PROJECT_DIR);
    if (existsSync(machineFile(PROJECT_DIR)) && before.baseImage === undefined) {
      // A network that is away for a while is no reason to build everything anew on another base.
      return {
        said: `from its registry, as before (${REGISTRY} does not answer now)`,
        value: { ...before, accelerator },
      };
    }
    const base = await ensureBaseImage({ cacheDir: CACHE_DIR, report });
    const facts: MachineFacts = {
      schema: 1,
      checkedAt,
      accelerator,
      baseImage: base.tag,
      unreachableRegistries: [REGISTRY],
    };
    return { said: `${base.tag}, since ${REGISTRY} does not answer`, value: facts };
  });
}

async function checkDisk(inputs: StackInputs): Promise<string> {
  const { host } = engineSettings(inputs);
  const client = engineClient(host);
  const { dataRoot } = await readEngineFacts(client, host);
  const disk = await readDisk(dataRoot, host, await hasTrainingImage(client, inputs));
  if (disk === undefined) return "the engine's, on another machine";
  const { status, said, remedy } = diskCheck(disk);
  if (status !== "fail") return said;
  throw machineError({ path: "disk", reason: said, remedy: remedy ?? "" });
}

function explained(error: OfflineError): UserError {
  const network = error.cause === "network";
  const log = error.log === undefined ? "" : ` (log: ${error.log})`;
  return new UserError(
    [{ path: error.what, reason: error.why, remedy: error.remedy + log }],
    network ? EXIT.network : EXIT.machine,
    "set-up",
  );
}
