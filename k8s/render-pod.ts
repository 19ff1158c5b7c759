import { basename, dirname } from "node:path";
import type { Input } from "@pulumi/pulumi";
import type { Mount, Workload } from "../stacks/plan/types.ts";
import { GPU_RESOURCE } from "../stacks/settings/gpu-nodes.ts";
import type { ClusterLayout, NodePool, Resolver } from "./layout.ts";
import { CLOUD_PEER, claimName, LABELS, labelsOf, SECRET_NAME } from "./names.ts";
import type { Container, PodSpec, PodTemplate, VolumeMount } from "./objects.ts";
import { renderInputMount } from "./render-inputs.ts";

/** What a pod asks for beside what its workload says. */
export interface PodNeeds {
  /** Cores asked for and allowed; the same two make a pod that is throttled last and evicted last. */
  readonly cpu: { readonly request: string; readonly limit: string };
  readonly memoryBytes: number;
  readonly gpus: number;
  readonly priorityClass: string;
  readonly serviceAccount: string;
  /** Name of the container, where it has to be another than the workload's. */
  readonly container?: string | undefined;
  readonly restartPolicy: "Always" | "OnFailure" | "Never";
  readonly graceSeconds: number;
  /** Whether a container that does not answer is started again; a run is left alone. */
  readonly liveness: boolean;
  /** Whether the container is asked at all; a job that ends tells by ending. */
  readonly probes: boolean;
  /** Command in place of the workload's own. */
  readonly command?: readonly string[];
  readonly environment?: readonly Variable[];
  readonly labels?: Readonly<Record<string, string>>;
  /** Folder of each volume that is mounted in place of its root, with variables as `$(NAME)`. */
  readonly folderOfVolume?: string;
  /** Nodes on which the pod may be; undefined leaves it to the scheduler. */
  readonly nodes?: readonly NodePool[];
  readonly runtimeClass?: string | undefined;
  /** A config map whose keys are files of this folder. */
  readonly files?: { readonly configMap: string; readonly folder: string };
  /** Whether the pod may ask the API server, with the rights of its service account. */
  readonly apiAccess?: boolean;
  /** Room on the node's disk for what is written outside of memory and volumes: logs. */
  readonly ephemeralStorage?: string;
}

export type Variable =
  | { readonly name: string; readonly value: Input<string> }
  | { readonly name: string; readonly valueFrom: { readonly fieldRef: { readonly fieldPath: string } } };

/** W&B's image runs as this user, and needs the root group for its files: https://docs.wandb.ai/guides/hosting. */
const IMAGE_OF_ELSEWHERE = { uid: 999, gid: 0 };

/** A workload as a pod. */
export function renderPod(workload: Workload, layout: ClusterLayout, resolve: Resolver, needs: PodNeeds): PodTemplate {
  const { uid, gid } = ownerOf(workload);
  const spec: PodSpec = {
    serviceAccountName: needs.serviceAccount,
    automountServiceAccountToken: needs.apiAccess ?? false,
    enableServiceLinks: false,
    restartPolicy: needs.restartPolicy,
    priorityClassName: needs.priorityClass,
    terminationGracePeriodSeconds: needs.graceSeconds,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: uid,
      runAsGroup: gid,
      fsGroup: gid,
      // Changing the owner of every file of a large volume at each start takes minutes.
      fsGroupChangePolicy: "OnRootMismatch",
      seccompProfile: { type: "RuntimeDefault" },
    },
    ...(layout.pullSecret === undefined ? {} : { imagePullSecrets: [{ name: layout.pullSecret }] }),
    ...(needs.runtimeClass === undefined ? {} : { runtimeClassName: needs.runtimeClass }),
    ...(needs.nodes === undefined ? {} : renderPlacement(needs.nodes)),
    containers: [renderContainer(workload, resolve, needs)],
    volumes: [...renderVolumes(workload, resolve), ...fileVolumes(needs)],
  };
  const labels = { ...labelsOf(layout, workload.name), ...reachLabels(workload, layout), ...needs.labels };
  return {
    metadata: { labels, ...(mountsBucket(workload, layout) ? { annotations: BUCKET_ANNOTATION } : {}) },
    spec,
  };
}

/** By it GKE puts the container beside a pod's own that mounts buckets. */
const BUCKET_ANNOTATION = { "gke-gcsfuse/volumes": "true" };

function mountsBucket({ mounts }: Workload, { claims }: ClusterLayout): boolean {
  return mounts.some((mount) => mount.kind === "volume" && claims[mount.volume].bucket !== undefined);
}

/** On nodes of any of these pools, whatever keeps other pods off them. */
function renderPlacement(pools: readonly NodePool[]): Pick<PodSpec, "affinity" | "tolerations"> {
  const tolerations = pools.flatMap((pool) => pool.tolerations);
  const distinct = new Map(tolerations.map((toleration) => [JSON.stringify(toleration), toleration]));
  return {
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: pools.map(({ nodeLabels }) => ({
            matchExpressions: Object.entries(nodeLabels).map(([key, value]) => ({
              key,
              operator: "In",
              values: [value],
            })),
          })),
        },
      },
    },
    tolerations: [...distinct.values()],
  };
}

function ownerOf({ user }: Workload): { readonly uid: number; readonly gid: number } {
  const [, uid, gid] = /^(\d+):(\d+)$/.exec(user ?? "") ?? [];
  return uid === undefined || gid === undefined ? IMAGE_OF_ELSEWHERE : { uid: Number(uid), gid: Number(gid) };
}

/** One label for each thing that a pod may reach, since a label has no list for its value. */
function reachLabels({ name, reaches }: Workload, { identities }: ClusterLayout): Readonly<Record<string, string>> {
  const peers = [...reaches, ...(identities[name] === undefined ? [] : [CLOUD_PEER])];
  return Object.fromEntries(peers.map((peer) => [`${LABELS.reaches}/${peer}`, "true"]));
}

function renderContainer(workload: Workload, resolve: Resolver, needs: PodNeeds): Container {
  const command = needs.command ?? workload.command;
  return {
    name: needs.container ?? workload.name,
    image: resolve.image(workload.image),
    imagePullPolicy: "IfNotPresent",
    ...(command === undefined ? {} : { args: [...command] }),
    env: renderEnvironment(workload, needs),
    ...(workload.ports.length === 0
      ? {}
      : {
          ports: workload.ports.map(({ container }) => ({ name: "http", containerPort: container, protocol: "TCP" })),
        }),
    resources: renderResources(needs),
    securityContext: {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: workload.readOnly,
      capabilities: { drop: ["ALL"] },
    },
    ...(needs.probes ? renderProbes(workload, needs.liveness) : {}),
    volumeMounts: [
      ...workload.mounts.flatMap((mount) => renderMount(mount, resolve, needs.folderOfVolume)),
      ...secretMounts(workload),
      ...memoryVolumes(workload).map(({ name, path }) => ({ name, mountPath: path })),
      ...(needs.files === undefined
        ? []
        : [{ name: needs.files.configMap, mountPath: needs.files.folder, readOnly: true }]),
    ],
  };
}

function fileVolumes({ files }: PodNeeds) {
  return files === undefined ? [] : [{ name: files.configMap, configMap: { name: files.configMap } }];
}

function renderEnvironment({ environment }: Workload, { gpus, environment: more = [] }: PodNeeds): Variable[] {
  // Where NVIDIA's runtime is the node's default one, a container that asked for no GPU would be shown all of them.
  const hidden = gpus === 0 && !more.some(({ name }) => name === GPU_VARIABLE) ? { [GPU_VARIABLE]: "void" } : {};
  const plain = Object.entries({ ...hidden, ...environment }).map(([name, value]) => ({ name, value }));
  return [...plain, ...more].sort((a, b) => (a.name < b.name ? -1 : 1));
}

export const GPU_VARIABLE = "NVIDIA_VISIBLE_DEVICES";

function renderResources({ cpu, memoryBytes, gpus, ephemeralStorage }: PodNeeds) {
  const shared = {
    memory: quantity(memoryBytes),
    ...(gpus === 0 ? {} : { [GPU_RESOURCE]: String(gpus) }),
    ...(ephemeralStorage === undefined ? {} : { "ephemeral-storage": ephemeralStorage }),
  };
  return { requests: { cpu: cpu.request, ...shared }, limits: { cpu: cpu.limit, ...shared } };
}

/** Bytes as the API server writes them back, so that a second apply finds nothing to change. */
export function quantity(bytes: number): string {
  const [factor, unit] =
    (
      [
        [2 ** 40, "Ti"],
        [2 ** 30, "Gi"],
        [2 ** 20, "Mi"],
        [2 ** 10, "Ki"],
      ] as const
    ).find(([factor]) => bytes % factor === 0) ?? ([1, ""] as const);
  return `${bytes / factor}${unit}`;
}

function renderProbes({ health }: Workload, liveness: boolean) {
  const probe = {
    exec: { command: [...health.command] },
    periodSeconds: health.intervalSeconds,
    timeoutSeconds: health.timeoutSeconds,
  };
  const startFailures = Math.max(1, Math.ceil(health.startSeconds / health.intervalSeconds));
  return {
    ...(liveness ? { startupProbe: { ...probe, failureThreshold: startFailures } } : {}),
    readinessProbe: { ...probe, failureThreshold: health.retries },
    // Twice as patient: out of service first, started again later.
    ...(liveness ? { livenessProbe: { ...probe, failureThreshold: health.retries * 2 } } : {}),
  };
}

function renderMount(mount: Mount, resolve: Resolver, folder: string | undefined): readonly VolumeMount[] {
  switch (mount.kind) {
    case "volume":
      return [
        {
          name: claimName(mount.volume),
          mountPath: mount.path,
          ...(mount.readOnly ? { readOnly: true } : {}),
          ...(folder === undefined ? {} : { subPathExpr: folder }),
        },
      ];
    case "host":
      return [renderInputMount(mount, resolve).mount];
    case "secret":
      // All of them in one folder.
      return [];
  }
}

function secretMounts({ mounts }: Workload) {
  const folders = mounts.flatMap((mount) => (mount.kind === "secret" ? [dirname(mount.path)] : []));
  return [...new Set(folders)].map((mountPath) => ({ name: "secrets", mountPath, readOnly: true }));
}

/** Example: `hf-token` of `/run/secrets/hf-token`. */
export function secretKey(path: string): string {
  return basename(path);
}

/** What is in memory: scratch folders, and shared memory for the data loaders. */
function memoryVolumes({ scratch, sharedMemoryBytes }: Workload) {
  const folders = scratch.map(({ path, bytes }) => ({ name: `scratch${path.replaceAll("/", "-")}`, path, bytes }));
  if (sharedMemoryBytes === undefined) return folders;
  return [...folders, { name: "shared-memory", path: "/dev/shm", bytes: sharedMemoryBytes }];
}

function renderVolumes(workload: Workload, resolve: Resolver) {
  const { mounts } = workload;
  const claims = mounts.flatMap((mount) =>
    mount.kind === "volume"
      ? [{ name: claimName(mount.volume), persistentVolumeClaim: { claimName: claimName(mount.volume) } }]
      : [],
  );
  const inputs = mounts.flatMap((mount) => (mount.kind === "host" ? [renderInputMount(mount, resolve).volume] : []));
  const keys = mounts.flatMap((mount) => (mount.kind === "secret" ? [secretKey(mount.path)] : [])).sort();
  const secrets =
    keys.length === 0
      ? []
      : [
          {
            name: "secrets",
            secret: {
              secretName: SECRET_NAME,
              // For the group of the pod's user, and for nobody else.
              defaultMode: 0o440,
              items: keys.map((key) => ({ key, path: key })),
            },
          },
        ];
  const memory = memoryVolumes(workload).map(({ name, bytes }) => ({
    name,
    emptyDir: { medium: "Memory", sizeLimit: quantity(bytes) },
  }));
  return [...claims, ...inputs, ...secrets, ...memory];
}
