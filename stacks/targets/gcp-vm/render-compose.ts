import { stringify } from "yaml";
import type { ImageReference, Mount, Plan, VolumeName, Workload } from "../../plan/types.ts";
import { containerName, LABELS, specificationOf, volumeName } from "../docker/render.ts";
import { engineSource, volumeFolder } from "./paths.ts";

/** What is known only when images are built; a test answers with plain strings. */
export interface ComposeResolver {
  readonly image: (reference: ImageReference) => string;
}

/** A compose file as data, in the words of https://github.com/compose-spec/compose-spec. */
export interface ComposeFile {
  readonly name: string;
  readonly services: Readonly<Record<string, ComposeService>>;
  readonly volumes: Readonly<Record<string, ComposeVolume>>;
  readonly networks: Readonly<Record<string, { readonly name: string; readonly driver: "bridge" }>>;
  /** For the VM's agent. */
  readonly "x-tunestack": { readonly run?: string; readonly replaceRunning: boolean };
}

interface ComposeVolume {
  readonly name: string;
  readonly driver: "local";
  readonly driver_opts: { readonly type: "none"; readonly o: "bind"; readonly device: string };
}

interface ComposeService {
  readonly container_name: string;
  readonly image: string;
  readonly command?: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
  readonly volumes: readonly object[];
  readonly ports?: readonly string[];
  readonly networks: Readonly<Record<string, object>>;
  readonly healthcheck: object;
  readonly logging: object;
  readonly restart: string;
  readonly stop_grace_period: string;
  readonly user?: string;
  readonly read_only: boolean;
  readonly tmpfs: readonly string[];
  readonly cap_drop: readonly ["ALL"];
  readonly security_opt: readonly ["no-new-privileges:true"];
  readonly init: true;
  readonly pids_limit: number;
  readonly mem_limit?: number;
  readonly memswap_limit?: number;
  readonly shm_size?: number;
  readonly deploy?: object;
}

/** Containers and volumes are called as on a Docker engine of one's own, so that whatever works there works here. */
const NAMING = { prefix: "" };
const NETWORK = "tunestack";

/** The plan as the compose file that the VM runs. */
export function renderCompose(plan: Plan, owner: string, resolve: ComposeResolver): ComposeFile {
  const services = plan.services.map((workload) => renderWorkload(workload, owner, resolve, {}));
  const run = plan.run === undefined ? [] : [renderRun(plan.run.workload, plan.run.run, owner, resolve)];
  const named = [...plan.services, ...(plan.run === undefined ? [] : [plan.run.workload])];
  return {
    name: NETWORK,
    services: Object.fromEntries([...services, ...run].map((service, index) => [named[index]?.name, service])),
    volumes: Object.fromEntries(plan.volumes.map(({ name }) => [name, renderVolume(name)])),
    networks: { [NETWORK]: { name: NETWORK, driver: "bridge" } },
    "x-tunestack": {
      ...(plan.run === undefined ? {} : { run: plan.run.workload.name }),
      replaceRunning: plan.run?.replaceRunning ?? false,
    },
  };
}

/** The file's text. Compose would put variables in for `$NAME`, so a dollar sign is written twice. */
export function composeText(file: ComposeFile): string {
  const text = JSON.stringify(file, (_key, value: unknown) =>
    typeof value === "string" ? value.replaceAll("$", "$$$$") : value,
  );
  return stringify(JSON.parse(text), { lineWidth: 0 });
}

/** A folder of the data disk, as a volume: the engine gives it the owner that the image's own folder has. */
function renderVolume(volume: VolumeName): ComposeVolume {
  return {
    name: volumeName(NAMING, volume),
    driver: "local",
    driver_opts: { type: "none", o: "bind", device: volumeFolder(volume) },
  };
}

/** A run may exit, and a crash is resumed from the newest checkpoint; a mistake fails the same way each time. */
function renderRun(workload: Workload, run: string, owner: string, resolve: ComposeResolver): ComposeService {
  const labels = { [LABELS.run]: run, [LABELS.specification]: specificationOf(workload) };
  const service = renderWorkload(workload, owner, resolve, labels);
  return {
    ...service,
    // A container cannot know its image by itself, and a run writes down what it was made with.
    environment: { ...service.environment, TUNESTACK_IMAGE_DIGEST: service.image },
    restart: `${workload.restart}:2`,
  };
}

function renderWorkload(
  workload: Workload,
  owner: string,
  resolve: ComposeResolver,
  labels: Readonly<Record<string, string>>,
): ComposeService {
  return {
    container_name: containerName(NAMING, workload.name),
    image: resolve.image(workload.image),
    ...(workload.command === undefined ? {} : { command: workload.command }),
    environment: workload.environment,
    labels: { ...labels, [LABELS.owner]: owner, [LABELS.service]: workload.name },
    volumes: workload.mounts.map(renderMount),
    ...(workload.ports.length === 0
      ? {}
      : { ports: workload.ports.map(({ container, host }) => `127.0.0.1:${host}:${container}`) }),
    networks: { [NETWORK]: { aliases: [workload.name] } },
    healthcheck: renderHealth(workload),
    logging: { driver: "json-file", options: { "max-size": "10m", "max-file": "3" } },
    restart: workload.restart,
    stop_grace_period: `${workload.stopGraceSeconds}s`,
    ...renderLimits(workload),
    ...renderHardening(workload),
  };
}

function renderMount(mount: Mount): object {
  switch (mount.kind) {
    case "volume":
      return { type: "volume", source: mount.volume, target: mount.path, read_only: mount.readOnly };
    case "host":
    case "secret":
      return bind(engineSource(mount), mount.path);
  }
}

/** What is not there is an error, and not a new empty folder. */
function bind(source: string, target: string): object {
  return { type: "bind", source, target, read_only: true, bind: { create_host_path: false } };
}

function renderHealth({ health }: Workload): object {
  return {
    test: ["CMD", ...health.command],
    interval: `${health.intervalSeconds}s`,
    timeout: `${health.timeoutSeconds}s`,
    start_period: `${health.startSeconds}s`,
    retries: health.retries,
  };
}

/** No swap on top: what outgrows its limit ends with a clear reason and does not slow the machine down. */
function renderLimits({ memoryBytes, sharedMemoryBytes, processLimit, gpu }: Workload) {
  return {
    pids_limit: processLimit,
    ...(memoryBytes === undefined ? {} : { mem_limit: memoryBytes, memswap_limit: memoryBytes }),
    ...(sharedMemoryBytes === undefined ? {} : { shm_size: sharedMemoryBytes }),
    ...(gpu === "none"
      ? {}
      : {
          deploy: {
            resources: { reservations: { devices: [{ driver: "nvidia", count: "all", capabilities: ["gpu"] }] } },
          },
        }),
  };
}

function renderHardening({ user, readOnly, scratch }: Workload) {
  const owner = user === undefined ? "" : `,uid=${user.replace(":", ",gid=")}`;
  return {
    ...(user === undefined ? {} : { user }),
    read_only: readOnly,
    tmpfs: scratch.map(({ path, bytes }) =>
      path === "/tmp"
        ? `${path}:rw,nosuid,nodev,size=${bytes},mode=1777`
        : `${path}:rw,nosuid,nodev,size=${bytes},mode=0700${owner}`,
    ),
    cap_drop: ["ALL"],
    security_opt: ["no-new-privileges:true"],
    // Reaps what the service leaves behind and hands signals on.
    init: true,
  } as const;
}
