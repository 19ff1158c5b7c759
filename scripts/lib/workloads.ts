import type { Workload } from "../../stacks/plan/types.ts";
import type { StackInputs } from "../../stacks/settings/load.ts";

/**
 * The containers of a stack where they run, whatever the target: what the commands need of it, and no more. Containers
 * go by the names that the stack's outputs give them. `openWorkloads` gives the one of a stack.
 */
export interface Workloads {
  /** Time between two looks at a state, in milliseconds: each costs whoever is asked. */
  readonly lookMs: number;
  readonly state: (container: string) => Promise<ContainerState>;
  /** A file's text, whether the container runs or not; undefined where there is none. */
  readonly readFile: (container: string, path: string) => Promise<string | undefined>;
  /** Runs a program in a running container. */
  readonly run: (container: string, command: readonly string[]) => Promise<Ended>;
  /** The last lines that a container printed. */
  readonly lastLines: (container: string, lines: number) => Promise<string>;
  /** Prints what a container prints, until it ends or the signal is given. */
  readonly follow: (container: string, lines: number, signal: AbortSignal) => Promise<void>;
  /** Starts a container that stands still; its command runs again from the start. */
  readonly start: (container: string) => Promise<void>;
  /** Ends a container: SIGTERM first, SIGKILL after the time of grace. */
  readonly stop: (container: string, graceSeconds: number) => Promise<void>;
  readonly restart: (container: string) => Promise<void>;
  /** A file or folder of a container as a tar archive, whose entries begin with its last name. */
  readonly archive: (container: string, path: string) => Promise<NodeJS.ReadableStream>;
  /** Unpacks a tar archive into a folder of a container; the files belong to the container's user. */
  readonly unpack: (container: string, folder: string, archive: NodeJS.ReadableStream) => Promise<void>;
  /** Runs a workload beside the stack's until it ends, and removes it. */
  readonly runOneOff: (inputs: StackInputs, job: OneOff) => Promise<Ended>;
  /** Makes a port that a service has on its machine's loopback address reachable from here. */
  readonly reach: (service: ReachedService, localPort: number) => Promise<Reached>;
}

/** What a container is doing, in the engine's words and for people. */
export interface ContainerState {
  readonly exists: boolean;
  /** Runs, or is between two tries. */
  readonly running: boolean;
  /** Runs now, so that a program can be run in it. */
  readonly reachable: boolean;
  /** `healthy`, `starting`, `unhealthy`; for a container that ended, its exit code; `missing`. */
  readonly health: string;
  readonly startedAt: string | undefined;
  readonly exitCode: number | undefined;
  readonly restarts: number;
  /** What the last health check said. */
  readonly lastCheck: string | undefined;
  /** What a run waits for before it works, for people. Example: `waits in the queue, position 2 of 3`. */
  readonly waitsFor?: string | undefined;
  /** The machine that it is on, where a stack has several. Example: `gpu-1 (NVIDIA-L4)`. */
  readonly machine?: string | undefined;
}

/** The state of a container that is not there. */
export const MISSING: ContainerState = {
  exists: false,
  running: false,
  reachable: false,
  health: "missing",
  startedAt: undefined,
  exitCode: undefined,
  restarts: 0,
  lastCheck: undefined,
};

/** What a program said until it ended. */
export interface Ended {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface OneOff {
  /** Name of the container; another of this name that runs is a refusal, one that has ended is removed. */
  readonly container: string;
  /** Image by its digest or tag. */
  readonly image: string;
  readonly workload: Workload;
  /** Gets each line that the program writes to its standard error. */
  readonly tell: (line: string) => void;
  /** Called with the container's files before it is removed, where the program ended well. */
  readonly collect?: (archive: Archive, ended: Ended) => Promise<void>;
}

/** Gives a folder out as a tar archive. */
export type Archive = (path: string) => Promise<NodeJS.ReadableStream>;

export interface ReachedService {
  readonly container: string;
  /** Address on the service's machine, as in the stack's outputs. Example: `http://127.0.0.1:8888/lab`. */
  readonly url: string;
}

export interface Reached {
  /** Address for a browser on this machine. */
  readonly url: string;
  /** Fulfilled when the way there ends; undefined where no tunnel is needed. */
  readonly ended: Promise<void> | undefined;
}
