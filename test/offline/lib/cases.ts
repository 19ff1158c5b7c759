import { resourceOf } from "../../../offline/docker-provider/operations.ts";
import type { Properties, Value } from "../../../offline/docker-provider/shape.ts";
import { withMeta } from "../../../offline/docker-provider/state.ts";

/** Values of one property between which every change is tried, also from and to leaving it out. */
export interface Cases {
  readonly token: string;
  /** The inputs that every case has. */
  readonly inputs: Properties;
  /** What a resource made from these inputs tells of itself. */
  readonly state: Properties;
  readonly values: Readonly<Record<string, readonly Value[]>>;
}

const check = { tests: ["CMD", "true"], interval: "10s", retries: 3 };
const volumeMount = { type: "volume", source: "a", target: "/a" };
const port = { internal: 80, external: 8080, ip: "127.0.0.1" };

const container: Cases = {
  token: "docker:index/container:Container",
  inputs: { image: "image:1", name: "c", command: ["sleep", "600"] },
  state: {
    image: "image:1",
    name: "c",
    command: ["sleep", "600"],
    attach: false,
    bridge: "",
    containerReadRefreshTimeoutMilliseconds: 15000,
    cpuSet: "",
    cpuShares: 0,
    domainname: "",
    entrypoints: [],
    envs: [],
    labels: [],
    securityOpts: [],
    networkDatas: [{ networkName: "bridge", ipAddress: "172.17.0.2" }],
    hostname: "0123456789ab",
    init: false,
    ipcMode: "private",
    logDriver: "json-file",
    logs: false,
    maxRetryCount: 0,
    memory: 0,
    memoryReservation: 0,
    memorySwap: 0,
    mustRun: true,
    networkMode: "bridge",
    pidMode: "",
    platform: "linux",
    privileged: false,
    publishAllPorts: false,
    readOnly: false,
    removeVolumes: true,
    restart: "no",
    rm: false,
    runtime: "runc",
    shmSize: 64,
    start: true,
    stdinOpen: false,
    stopSignal: "",
    stopTimeout: 0,
    tty: false,
    user: "",
    usernsMode: "",
    wait: false,
    waitTimeout: 60,
    workingDir: "",
  },
  values: {
    attach: [true, false],
    capabilities: [{ drops: ["ALL"] }, { drops: ["ALL"], adds: ["CHOWN"] }],
    cgroupParent: ["a", "b"],
    command: [["a"], ["a", "b"]],
    cpuPeriod: [1000, 2000],
    cpuSet: ["0", "0-1"],
    cpuShares: [10, 20],
    cpus: ["0.5", "1"],
    destroyGraceSeconds: [1, 2],
    deviceRequests: [
      [{ driver: "cdi", deviceIds: ["nvidia.com/gpu=all"] }],
      [{ driver: "nvidia", count: 1, capabilities: ["gpu"] }],
    ],
    devices: [[{ hostPath: "/dev/null" }], [{ hostPath: "/dev/null", permissions: "r" }]],
    dns: [["1.1.1.1"], ["8.8.8.8", "1.1.1.1"]],
    entrypoints: [["x"], ["y"]],
    envs: [["A=1"], ["A=1", "B=2"], ["B=2", "A=1"]],
    gpus: ["all", "device=0"],
    groupAdds: [["1"], ["2"]],
    healthcheck: [check, { ...check, retries: 4 }, { ...check, interval: "1m0s" }],
    hostname: ["a", "b"],
    hosts: [[{ host: "a", ip: "1.1.1.1" }], [{ host: "a", ip: "2.2.2.2" }]],
    image: ["image:1", "image:2"],
    init: [true, false],
    ipcMode: ["private", "shareable"],
    labels: [
      [{ label: "a", value: "b" }],
      [{ label: "a", value: "c" }],
      [
        { label: "a", value: "b" },
        { label: "d", value: "e" },
      ],
    ],
    logDriver: ["json-file", "none"],
    logOpts: [{ a: "b" }, { a: "c" }],
    maxRetryCount: [1, 2],
    memory: [64, 128],
    memoryReservation: [1, 2],
    memorySwap: [100, -1],
    mounts: [
      [volumeMount],
      [{ ...volumeMount, source: "b" }],
      [{ ...volumeMount, readOnly: true }],
      [volumeMount, { type: "volume", source: "b", target: "/b" }],
      [{ type: "tmpfs", target: "/t", tmpfsOptions: { sizeBytes: 5 } }],
      [{ type: "tmpfs", target: "/t", tmpfsOptions: { sizeBytes: 6 } }],
      [{ type: "bind", source: "/etc", target: "/t", bindOptions: { propagation: "rprivate" } }],
    ],
    mustRun: [true, false],
    name: ["c", "d"],
    networkMode: ["bridge", "host"],
    networksAdvanced: [[{ name: "n" }], [{ name: "n", aliases: ["x"] }], [{ name: "m" }]],
    ports: [
      [port],
      [{ ...port, external: 8081 }],
      [{ internal: 80, external: 8080 }],
      [{ internal: 80, ip: "127.0.0.1" }],
      [port, { internal: 81, external: 8082, ip: "127.0.0.1" }],
      [{ internal: 81, external: 8082, ip: "127.0.0.1" }, port],
    ],
    privileged: [true, false],
    readOnly: [true, false],
    removeVolumes: [true, false],
    restart: ["no", "always"],
    rm: [true, false],
    securityOpts: [["a"], ["b"]],
    shmSize: [64, 128],
    start: [true, false],
    stopSignal: ["SIGINT", "SIGTERM"],
    stopTimeout: [1, 2],
    sysctls: [{ a: "b" }, { a: "c" }],
    tmpfs: [{ "/tmp": "size=1m" }, { "/tmp": "size=2m" }],
    ulimits: [[{ name: "nofile", soft: 1, hard: 2 }], [{ name: "nofile", soft: 1, hard: 3 }]],
    user: ["1000", ""],
    volumes: [[{ volumeName: "a", containerPath: "/a" }], [{ volumeName: "b", containerPath: "/a" }]],
    wait: [true, false],
    waitTimeout: [1, 2],
    workingDir: ["/a", ""],
  },
};

const volume: Cases = {
  token: "docker:index/volume:Volume",
  inputs: { name: "v" },
  state: { name: "v", driver: "local", mountpoint: "/v", labels: [] },
  values: {
    name: ["v", "w"],
    driver: ["local", "other"],
    driverOpts: [{ a: "b" }, { a: "c" }],
    labels: [[{ label: "a", value: "b" }], [{ label: "a", value: "c" }]],
  },
};

const network: Cases = {
  token: "docker:index/network:Network",
  inputs: { name: "n" },
  state: {
    name: "n",
    attachable: false,
    driver: "bridge",
    ingress: false,
    internal: false,
    ipv6: false,
    ipamDriver: "default",
    ipamConfigs: [{ subnet: "172.18.0.0/16", gateway: "172.18.0.1", ipRange: "", auxAddress: {} }],
    labels: [],
    options: {},
    scope: "local",
  },
  values: {
    name: ["n", "m"],
    attachable: [true, false],
    driver: ["bridge", "other"],
    internal: [true, false],
    ipamConfigs: [[{ subnet: "10.0.0.0/24" }], [{ subnet: "10.0.1.0/24" }]],
    ipamDriver: ["default", "other"],
    ipv6: [true, false],
    labels: [[{ label: "a", value: "b" }], [{ label: "a", value: "c" }]],
    options: [{ a: "b" }, { a: "c" }],
  },
};

const image: Cases = {
  token: "docker:index/remoteImage:RemoteImage",
  inputs: { name: "image:1" },
  state: { name: "image:1", imageId: "sha256:1", platform: "", repoDigest: "" },
  values: {
    name: ["image:1", "image:2"],
    forceRemove: [true, false],
    keepLocally: [true, false],
    platform: ["linux/amd64", ""],
    pullTriggers: [["a"], ["b"]],
    triggers: [{ a: "b" }, { a: "c" }],
  },
};

export const allCases = [container, volume, network, image] as const;

export interface Case {
  readonly name: string;
  readonly urn: string;
  readonly state: Properties;
  readonly inputs: Properties;
}

/** Each property of each resource, from every one of its values (or none) to every other. */
export function* eachCase(
  strip: (inputs: Properties) => Properties,
  fill: (urn: string, given: Properties) => Properties,
): Generator<Case> {
  for (const { token, inputs, state, values } of allCases) {
    const urn = `urn:pulumi:dev::project::${token}::resource`;
    for (const [property, listed] of Object.entries(values)) {
      const all = [undefined, ...listed];
      for (const from of all) {
        for (const to of all) {
          if (from === to || (property in inputs && to === undefined)) continue;
          const filled = from === undefined ? undefined : strip(fill(urn, { ...inputs, [property]: from }))[property];
          yield {
            name: `${token.slice(token.lastIndexOf(":") + 1)} ${property}: ${JSON.stringify(from) ?? "-"} → ${JSON.stringify(to) ?? "-"}`,
            urn,
            state: withMeta(resourceOf(urn), filled === undefined ? state : { ...state, [property]: filled }),
            inputs: to === undefined ? inputs : { ...inputs, [property]: to },
          };
        }
      }
    }
  }
}

/** What a change does, in one word and whether the old resource goes first. */
export function verdict(
  changes: readonly { readonly path: string; readonly replaces: boolean }[],
  deleteFirst: boolean,
): string {
  if (changes.length === 0) return "nothing";
  if (!changes.some((one) => one.replaces)) return "update";
  return deleteFirst ? "replace, old one first" : "replace";
}
