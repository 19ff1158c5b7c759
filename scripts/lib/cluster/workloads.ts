import type { V1Pod, V1PodTemplateSpec } from "@kubernetes/client-node";
import { statusOf } from "../../../k8s/access.ts";
import { LABELS } from "../../../k8s/names.ts";
import type { RunOutput } from "../../../stacks/outputs.ts";
import type { StackInputs } from "../../../stacks/settings/load.ts";
import { atEnd, machineError } from "../errors.ts";
import { step } from "../steps.ts";
import type { ContainerState, Ended, OneOff, Reached, ReachedService, Workloads } from "../workloads.ts";
import type { ClusterClient } from "./client.ts";
import { followPods } from "./follow-pods.ts";
import { helperJob, type OwnPod, podsOf, startJob } from "./helper-pod.ts";
import { runOneOff } from "./one-off.ts";
import { ClusterRun } from "./run.ts";
import { jobTemplate, readService, servicePods } from "./services.ts";
import { isAtWork } from "./states.ts";
import { followLog, forwardPort, type PodPlace, readLog, runToEnd } from "./streams.ts";
import { packed, unpacked } from "./tar.ts";

/** Somebody waits for what is read through it. */
const HELPER_PATIENCE_MS = 5 * 60_000;

/**
 * The containers of a stack in a cluster. A service goes by the name of its Deployment, DaemonSet or CronJobs, a run by
 * that of its object. What needs a running container where none runs gets a pod with the same volumes for as long as the
 * command goes on.
 */
export class ClusterWorkloads implements Workloads {
  readonly lookMs = 3000;
  readonly #client: ClusterClient;
  readonly #training: { readonly container: string; readonly run: ClusterRun } | undefined;
  #helper: Promise<OwnPod> | undefined;

  constructor(client: ClusterClient, run: RunOutput | undefined) {
    this.#client = client;
    this.#training = run === undefined ? undefined : { container: run.container, run: new ClusterRun(client, run) };
  }

  async state(container: string): Promise<ContainerState> {
    const run = this.#runOf(container);
    return run === undefined ? await readService(this.#client, container) : await run.state();
  }

  async readFile(container: string, path: string): Promise<string | undefined> {
    const { exitCode, stdout } = await this.#inPod(await this.#reader(container, path), ["cat", "--", path]);
    return exitCode === 0 ? stdout : undefined;
  }

  async run(container: string, command: readonly string[]): Promise<Ended> {
    return await this.#inPod(await this.#place(container), command);
  }

  async lastLines(container: string, lines: number): Promise<string> {
    const pod = (await this.#pods(container)).at(-1);
    if (pod === undefined) return "";
    const { config } = this.#client;
    // A pod whose container has not started has said nothing yet.
    return (await this.#client.find(() => readLog(config, placeOf(pod), lines).catch(ifNotStarted))) ?? "";
  }

  async follow(container: string, lines: number, signal: AbortSignal): Promise<void> {
    await followPods(
      {
        pods: () => this.#pods(container),
        state: () => this.state(container),
        copy: (pod, wanted) => followLog(this.#client.config, placeOf(pod), wanted, process.stdout, signal),
        tell: (line) => console.error(line),
      },
      lines,
      signal,
    );
  }

  async start(container: string): Promise<void> {
    await this.#onlyRun(container).start();
  }

  async stop(container: string, graceSeconds: number): Promise<void> {
    await this.#onlyRun(container).stop(graceSeconds);
  }

  /** Its pods are removed, and come back. */
  async restart(container: string): Promise<void> {
    const { namespace, core } = this.#client;
    for (const { metadata } of await this.#pods(container))
      await this.#client.find(() => core.deleteNamespacedPod({ name: metadata?.name ?? "", namespace }));
  }

  async archive(container: string, path: string): Promise<NodeJS.ReadableStream> {
    const place = await this.#reader(container, path);
    return await this.#client.call(() => packed(this.#client.config, place, path), []);
  }

  async unpack(container: string, folder: string, archive: NodeJS.ReadableStream): Promise<void> {
    const place = await this.#place(container);
    await this.#client.call(() => unpacked(this.#client.config, place, folder, archive), []);
  }

  async runOneOff(inputs: StackInputs, job: OneOff): Promise<Ended> {
    return await runOneOff(this.#client, inputs, job);
  }

  async reach({ container, url }: ReachedService, localPort: number): Promise<Reached> {
    return await forwardPort(this.#client.config, url, localPort, async () => {
      const pod = (await this.#pods(container)).findLast(isAtWork);
      const port = pod?.spec?.containers[0]?.ports?.[0]?.containerPort;
      return pod === undefined || port === undefined ? undefined : { ...placeOf(pod), port };
    });
  }

  #runOf(container: string): ClusterRun | undefined {
    return this.#training?.container === container ? this.#training.run : undefined;
  }

  #onlyRun(container: string): ClusterRun {
    const run = this.#runOf(container);
    if (run === undefined) throw new Error(`${container}: a service of a cluster neither stands still nor is started`);
    return run;
  }

  /** Pods of a service or of the run, the newest last. */
  async #pods(container: string): Promise<readonly V1Pod[]> {
    const run = this.#runOf(container);
    if (run !== undefined) return await run.pods();
    return await servicePods(this.#client, container);
  }

  async #inPod(place: PodPlace, command: readonly string[]): Promise<Ended> {
    return await this.#client.call(() => runToEnd(this.#client.config, place, command), []);
  }

  /** Where a program is run: the service's own pod, on the run's node where it has several, or a pod for this command. */
  async #place(container: string): Promise<PodPlace> {
    const atWork = (await this.#pods(container)).filter(isAtWork);
    const node = atWork.length > 1 ? (await this.#training?.run.pods())?.findLast(isAtWork)?.spec?.nodeName : undefined;
    const pod = atWork.find(({ spec }) => spec?.nodeName === node) ?? atWork.at(-1);
    return pod === undefined ? await this.#helperPlace(container) : placeOf(pod);
  }

  /** Where a file of a volume is read: any pod of the stack that has the volume at this place. */
  async #reader(container: string, path: string): Promise<PodPlace> {
    const own = (await this.#pods(container)).findLast((pod) => isAtWork(pod) && sees(pod, path));
    if (own !== undefined) return placeOf(own);
    const all = await podsOf(this.#client, `${LABELS.instance}=${this.#client.stack}`);
    const other = all.find((pod) => isAtWork(pod) && sees(pod, path));
    return other === undefined ? await this.#helperPlace(container) : placeOf(other);
  }

  /** One for all that a command does. */
  async #helperPlace(container: string): Promise<PodPlace> {
    this.#helper ??= this.#startHelper(container);
    return (await this.#helper).place;
  }

  /** With the volumes of the jobs that back up, which have all of them, or of the run. */
  async #startHelper(container: string): Promise<OwnPod> {
    const jobs = await jobTemplate(this.#client);
    const template = jobs ?? (await templateOf(this.#training?.run));
    if (template === undefined) throw notThere(this.#client, container);
    const job = helperJob(template, this.#client.stack, jobs !== undefined);
    return await step("helper pod", async (report) => {
      const pod = await startJob(this.#client, job, { report, patienceMs: HELPER_PATIENCE_MS });
      atEnd(pod.remove);
      return { said: `on ${pod.node}, with the stack's volumes`, value: pod };
    });
  }
}

function placeOf({ metadata, spec }: V1Pod): PodPlace {
  return {
    namespace: metadata?.namespace ?? "",
    pod: metadata?.name ?? "",
    container: spec?.containers[0]?.name ?? "",
  };
}

/** Whether a pod has the volume that a path is in, and at its root: a folder of a volume shows other files. */
function sees({ spec }: V1Pod, path: string): boolean {
  const mounts = spec?.containers[0]?.volumeMounts ?? [];
  const claims = new Set(spec?.volumes?.flatMap((one) => (one.persistentVolumeClaim == null ? [] : [one.name])));
  return mounts.some(
    ({ name, mountPath, subPath, subPathExpr }) =>
      claims.has(name) && subPath == null && subPathExpr == null && path.startsWith(`${mountPath}/`),
  );
}

async function templateOf(run: ClusterRun | undefined): Promise<V1PodTemplateSpec | undefined> {
  return (await run?.template()) as V1PodTemplateSpec | undefined;
}

function ifNotStarted(error: unknown): string {
  if (statusOf(error) === 400) return "";
  throw error;
}

function notThere({ namespace, stack }: ClusterClient, container: string): Error {
  return machineError({
    path: container,
    value: namespace,
    reason: "is not in the cluster",
    remedy: `npx pulumi up --refresh --stack ${stack} brings it back`,
  });
}
