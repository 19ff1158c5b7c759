import type Docker from "dockerode";
import { chooseAccelerator } from "../../../stacks/plan/plan.ts";
import { planServices } from "../../../stacks/plan/services.ts";
import type { Workload } from "../../../stacks/plan/types.ts";
import { engineSettings } from "../../../stacks/settings/engine.ts";
import { hasTarget, type StackInputs } from "../../../stacks/settings/load.ts";
import { SettingsError } from "../../../stacks/settings/problems.ts";
import { engineClient, readEngine } from "../../../stacks/targets/docker/engine.ts";
import { containerName } from "../../../stacks/targets/docker/render.ts";
import { Containers } from "../containers.ts";
import { readDeployment } from "../file-backend.ts";
import { namingOf } from "../naming.ts";
import { readGpu } from "../setup/gpu.ts";
import { isSetUp, openStack, readInputs } from "../stack.ts";
import { type Check, fromProblem, ok } from "./check.ts";
import { cloudChecks } from "./cloud-checks.ts";
import { isHeld, readLocks, thisMachine } from "./locks.ts";
import { buildxCheck, diskCheck, engineCheck, gpuCheck, memoryCheck, sharedMemoryCheck } from "./machine-checks.ts";
import { hubCheck, modelCheck, registryCheck } from "./network-checks.ts";
import { findMissing, findOrphans, readThings } from "./orphans.ts";
import { lockCheck, passphraseCheck, pendingCheck, programCheck } from "./pulumi-checks.ts";
import { cloudWanted, readCloud } from "./read-cloud.ts";
import {
  type Engine,
  hasTrainingImage,
  readBuildx,
  readDisk,
  readEngineFacts,
  readMemory,
  readPassphrase,
  readPrograms,
} from "./read-machine.ts";
import { neededModel, readHub, readRegistry } from "./read-network.ts";
import { leftOutCheck, orphanCheck, portChecks, serviceCheck } from "./stack-checks.ts";
import { type KnownState, knownState } from "./state.ts";

/** What the doctor found. */
export interface Examination {
  readonly checks: readonly Check[];
  /** Undefined where the settings are wrong. */
  readonly inputs: StackInputs | undefined;
}

/** Looks at everything that a stack stands on; changes nothing. */
export async function examine(stack: string): Promise<Examination> {
  const { inputs, checks: settingChecks } = readSettings(stack);
  const host = inputs === undefined ? process.env.DOCKER_HOST : engineSettings(inputs).host;
  const client = engineClient(host);
  const engine = await readEngineFacts(client, host);
  const [machine, network, cloud, cluster, state] = await Promise.all([
    machineChecks(client, engine, inputs, host),
    inputs === undefined ? [] : networkChecks(inputs),
    inputs === undefined ? [] : cloudStackChecks(inputs),
    inputs === undefined ? [] : clusterOf(inputs),
    inputs !== undefined && hasTarget(inputs, "docker") ? stackChecks(client, engine, inputs) : [],
  ]);
  return {
    checks: [...machine, ...pulumiChecks(stack), ...network, ...settingChecks, ...cloud, ...cluster, ...state],
    inputs,
  };
}

async function clusterOf(inputs: StackInputs): Promise<readonly Check[]> {
  if (!hasTarget(inputs, "kubernetes")) return [];
  // The client of Kubernetes takes a second to load.
  const { clusterChecks } = await import("./read-cluster.ts");
  return await clusterChecks(inputs);
}

async function cloudStackChecks(inputs: StackInputs): Promise<readonly Check[]> {
  const wanted = cloudWanted(inputs);
  return wanted === undefined ? [] : cloudChecks(await readCloud(wanted));
}

function readSettings(stack: string): Examination {
  try {
    return { inputs: readInputs(stack), checks: [ok("settings", "valid")] };
  } catch (error) {
    if (error instanceof SettingsError)
      return { inputs: undefined, checks: error.problems.map((problem) => fromProblem(problem)) };
    throw error;
  }
}

async function machineChecks(
  client: Docker,
  engine: Engine,
  inputs: StackInputs | undefined,
  host: string | undefined,
): Promise<readonly Check[]> {
  const memory = readMemory();
  const disk = await readDisk(engine.dataRoot, host, inputs !== undefined && (await hasTrainingImage(client, inputs)));
  return [
    gpuCheck(await readGpu(), inputs?.settings.accelerator ?? "auto"),
    engineCheck(engine.facts),
    buildxCheck(await readBuildx()),
    ...(disk === undefined ? [] : [diskCheck(disk)]),
    memoryCheck(memory),
    ...(inputs === undefined
      ? []
      : [sharedMemoryCheck({ wantedBytes: inputs.settings.training.sharedMemory, totalBytes: memory.totalBytes })]),
  ];
}

function pulumiChecks(stack: string): readonly Check[] {
  return [
    ...readPrograms().map(programCheck),
    passphraseCheck(readPassphrase(stack)),
    lockCheck(stack, readLocks(stack), thisMachine()),
  ];
}

async function networkChecks(inputs: StackInputs): Promise<readonly Check[]> {
  const model = neededModel(inputs);
  const [registry, hub] = await Promise.all([readRegistry(inputs.machine.baseImage), readHub(inputs, model)]);
  return [registryCheck(registry), hubCheck(hub), modelCheck(model, hub)];
}

async function stackChecks(client: Docker, engine: Engine, inputs: StackInputs): Promise<readonly Check[]> {
  if ("problem" in engine.facts) return [];
  const accelerator = chooseAccelerator(inputs);
  const { services, leftOut } = planServices(inputs, accelerator);
  const naming = namingOf(inputs);
  const ports = services.flatMap((service) => service.ports.map(({ host }) => host));
  const found = await readEngine(engineSettings(inputs).host, ports);
  const checks = [...portChecks(services, naming.owner, found), ...leftOut.map(leftOutCheck)];
  // While another command is at work, what it has under way would look like what a killed one left.
  if (isHeld(readLocks(inputs.stack) ?? [])) return checks;
  const state = await readState(inputs.stack);
  return [
    ...checks,
    pendingCheck(state?.pending),
    ...(state === undefined ? [] : [await leftOverCheck(client, inputs, state)]),
    ...(state === undefined || state.containers.size === 0 ? [] : await healthChecks(inputs, services)),
  ];
}

/** Pulumi's state; undefined where it cannot be had, which another check explains. */
async function readState(stack: string): Promise<KnownState | undefined> {
  if (!isSetUp()) return undefined;
  try {
    return knownState(readDeployment(stack) ?? (await (await openStack(stack)).exportStack()));
  } catch {
    return undefined;
  }
}

async function leftOverCheck(client: Docker, inputs: StackInputs, state: KnownState): Promise<Check> {
  const things = await readThings(client);
  return orphanCheck(findOrphans(things, namingOf(inputs), state), findMissing(things, state));
}

async function healthChecks(inputs: StackInputs, services: readonly Workload[]): Promise<readonly Check[]> {
  const { host } = engineSettings(inputs);
  const containers = new Containers(host === undefined ? {} : { engine: host });
  return await Promise.all(
    services.map(async ({ name }) => serviceCheck(name, await containers.state(containerName(namingOf(inputs), name)))),
  );
}
