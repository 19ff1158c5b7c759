import { spawn } from "node:child_process";
import { planImage } from "../../stacks/plan/image.ts";
import { chooseAccelerator } from "../../stacks/plan/plan.ts";
import { planRun, runProblems } from "../../stacks/plan/run.ts";
import type { Mount, Workload } from "../../stacks/plan/types.ts";
import { engineSettings } from "../../stacks/settings/engine.ts";
import type { StackInputs } from "../../stacks/settings/load.ts";
import { volumeName } from "../../stacks/targets/docker/render.ts";
import { buildCommand } from "./build.ts";
import { EXIT, type ExitCode, UserError } from "./errors.ts";
import { runQuietly } from "./process.ts";
import { PROJECT_DIR, pulumiEnvironment } from "./project.ts";
import { setUp } from "./setup/setup.ts";
import { step } from "./steps.ts";

/** Exit code of `tunestack-train` for settings that are wrong. */
const TRAIN_SETTINGS_CODE = 2;

export interface DryRunOptions {
  /** Settings with the run in them; read again after set-up, which may find another accelerator. */
  readonly inputs: () => StackInputs;
  readonly json: boolean;
}

/**
 * Checks settings, data and model in a throwaway container of the training image and prints what it finds. Nothing of
 * the stack is touched: no run begins, nothing is made but the image.
 * @returns the code to leave with.
 * @throws UserError where the data or the model's folder is not there.
 */
export async function dryRun(stack: string, { inputs, json }: DryRunOptions): Promise<ExitCode | 0> {
  requirePlaces(inputs());
  await setUp(stack);
  const settled = inputs();
  const { workload } = planRun(settled, "cpu");
  const image = `tunestack/${engineSettings(settled).prefix}dry-run:${stack}`;
  const environment = engineEnvironment(settled);
  await step("training image", async () => {
    const accelerator = chooseAccelerator(settled);
    const build = buildCommand(planImage(settled, accelerator), "training", ["--load", "--tag", image]);
    await runQuietly("docker", build, environment);
    return { said: "there", value: undefined };
  });
  const volumes = await existingVolumes(environment);
  const args = dryRunArguments(workload, {
    image,
    json,
    terminal: !json && process.stdout.isTTY === true,
    volume: (mount) => {
      const name = volumeName(engineSettings(settled), mount.volume);
      return volumes.has(name) ? name : undefined;
    },
  });
  return exitCode(await inherit(args, environment));
}

export interface DryRunContainer {
  readonly image: string;
  readonly json: boolean;
  /** Somebody watches: what is learnt is shown in colour. */
  readonly terminal: boolean;
  /** Name of a volume on the engine; undefined where there is none yet, which a dry run does not make. */
  readonly volume: (mount: VolumeMount) => string | undefined;
}

type VolumeMount = Mount & { readonly kind: "volume" };

/** The arguments of `docker` that try a run's command: the same user, mounts and limits, without a GPU. */
export function dryRunArguments(workload: Workload, container: DryRunContainer): readonly string[] {
  const owner = (workload.user ?? "0:0").replace(":", ",gid=");
  return [
    ...["run", "--rm", "--init", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true"],
    ...(container.terminal ? ["--tty"] : []),
    ...(workload.user === undefined ? [] : ["--user", workload.user]),
    ...(workload.memoryBytes === undefined ? [] : ["--memory", String(workload.memoryBytes)]),
    ...["--pids-limit", String(workload.processLimit)],
    ...workload.scratch.flatMap(({ path, bytes }) => ["--tmpfs", `${path}:rw,nosuid,nodev,size=${bytes},uid=${owner}`]),
    ...workload.mounts.flatMap((mount) => mountArguments(mount, container)),
    ...Object.entries(workload.environment)
      .sort()
      .flatMap(([name, value]) => ["--env", `${name}=${value}`]),
    container.image,
    ...(workload.command ?? []),
    "--dry-run",
    ...(container.json ? ["--json"] : []),
  ];
}

/** Checkpoints and logs are not for a dry run to write; the models' cache is where its tokens are kept. */
function mountArguments(mount: Mount, { volume }: DryRunContainer): readonly string[] {
  switch (mount.kind) {
    case "volume": {
      const name = volume(mount);
      const access = mount.volume === "training_models_cache" ? "" : ",readonly";
      return name === undefined ? [] : ["--mount", `type=volume,source=${name},target=${mount.path}${access}`];
    }
    case "host":
    case "secret":
      return ["--mount", `type=bind,source=${mount.source},target=${mount.path},readonly`];
  }
}

/** What cannot be tried is refused here; that a GPU or a token is missing says the dry run itself, at its end. */
function requirePlaces(inputs: StackInputs): void {
  const problems = runProblems(inputs, "cpu").filter(({ path }) => path !== "training.preset");
  if (problems.length > 0) throw new UserError(problems, EXIT.settings, "command line");
}

function engineEnvironment(inputs: StackInputs): Readonly<Record<string, string>> {
  const { host } = engineSettings(inputs);
  return { ...pulumiEnvironment(process.env), ...(host === undefined ? {} : { DOCKER_HOST: host }) };
}

async function existingVolumes(environment: Readonly<Record<string, string>>): Promise<ReadonlySet<string>> {
  const names = await runQuietly("docker", ["volume", "ls", "--format", "{{.Name}}"], environment);
  return new Set(names.split("\n"));
}

function exitCode(code: number): ExitCode | 0 {
  if (code === 0) return 0;
  return code === TRAIN_SETTINGS_CODE ? EXIT.settings : EXIT.run;
}

/** Runs `docker` with this terminal as its own; Ctrl-C reaches the container. */
function inherit(args: readonly string[], environment: Readonly<Record<string, string>>): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn("docker", args, {
      cwd: PROJECT_DIR,
      env: { ...process.env, ...environment },
      stdio: ["ignore", "inherit", "inherit"],
    });
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 1));
  });
}
