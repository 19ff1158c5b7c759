import type { Property, Shape } from "./shape.ts";

// The properties of @pulumi/docker 5.0.0 as its schema gives them, and what a change of each does, as the Terraform
// provider that it wraps declares it (kreuzwerker/docker 4.2.0: ForceNew, Computed, Default, validation).

const text = { kind: "string" } as const;
const textAnew = { kind: "string", replaces: true } as const;
const numberAnew = { kind: "integer", replaces: true } as const;
const flagAnew = { kind: "boolean", replaces: true } as const;
const setAnew = { kind: "strings", order: "set", replaces: true } as const;
const mapAnew = { kind: "map", replaces: true } as const;
const required = { required: true } as const;
const computed = { computed: true } as const;
const told = { onlyOutput: true, computed: true } as const;
const duration = { kind: "string", default: "0s", format: "duration" } as const;
const amount = { kind: "integer", atLeast: 0 } as const;
const unsupportedList = { kind: "objects", shape: {}, unsupported: true } as const;

const labels = {
  kind: "objects",
  replaces: true,
  shape: { label: { ...textAnew, ...required }, value: { ...textAnew, ...required } },
} as const satisfies Property;

const ports = {
  kind: "objects",
  replaces: true,
  shape: {
    internal: { ...numberAnew, ...required },
    external: { ...numberAnew, ...computed },
    ip: { ...textAnew, default: "0.0.0.0" },
    protocol: { ...textAnew, default: "tcp" },
  },
} as const satisfies Property;

const mounts = {
  kind: "objects",
  replaces: true,
  shape: {
    target: { ...text, ...required },
    source: text,
    type: { ...text, ...required, pattern: /^(bind|volume|tmpfs)$/ },
    readOnly: { kind: "boolean" },
    bindOptions: {
      kind: "object",
      shape: { propagation: { ...text, pattern: /^(private|rprivate|shared|rshared|slave|rslave)$/ } },
    },
    volumeOptions: {
      kind: "object",
      shape: {
        noCopy: { kind: "boolean" },
        labels,
        driverName: text,
        driverOptions: { kind: "map" },
        subpath: textAnew,
      },
    },
    tmpfsOptions: {
      kind: "object",
      replaces: true,
      shape: { sizeBytes: { kind: "integer" }, mode: { kind: "integer" } },
    },
  },
} as const satisfies Property;

const volumes = {
  kind: "objects",
  replaces: true,
  shape: {
    fromContainer: textAnew,
    containerPath: textAnew,
    hostPath: { ...textAnew, format: "absolute path" },
    volumeName: textAnew,
    readOnly: flagAnew,
    selinuxRelabel: { ...textAnew, pattern: /^(z|Z)$/ },
  },
} as const satisfies Property;

const healthcheck = {
  kind: "object",
  computed: true,
  shape: {
    tests: { kind: "strings", order: "list" },
    interval: duration,
    timeout: duration,
    startPeriod: duration,
    startInterval: duration,
    retries: { ...amount, default: 0 },
  },
} as const satisfies Property;

const networksAdvanced = {
  kind: "objects",
  replaces: true,
  shape: {
    name: { ...textAnew, ...required },
    aliases: setAnew,
    ipv4Address: textAnew,
    ipv6Address: textAnew,
    linkLocalIps: setAnew,
    macAddress: textAnew,
    driverOpts: setAnew,
    gwPriority: { ...numberAnew, atLeast: 0 },
  },
} as const satisfies Property;

const deviceRequests = {
  kind: "objects",
  replaces: true,
  shape: {
    driver: { ...textAnew, default: "cdi" },
    count: { ...numberAnew, default: 0 },
    deviceIds: setAnew,
    capabilities: setAnew,
    options: mapAnew,
  },
} as const satisfies Property;

export const containerShape = {
  name: { ...textAnew, ...required },
  image: { ...textAnew, ...required },
  attach: { kind: "boolean", default: false },
  bridge: { ...text, ...told },
  capabilities: { kind: "object", replaces: true, shape: { adds: setAnew, drops: setAnew } },
  cgroupParent: textAnew,
  cgroupnsMode: { ...textAnew, pattern: /^(private|host)$/ },
  command: { kind: "strings", order: "list", replaces: true, computed: true },
  containerLogs: { ...text, ...told },
  containerReadRefreshTimeoutMilliseconds: { ...amount, default: 15000 },
  cpuPeriod: amount,
  cpuQuota: amount,
  cpuSet: { ...text, pattern: /^\d+([,-]\d+)*$/ },
  cpuShares: amount,
  cpus: textAnew,
  destroyGraceSeconds: { kind: "integer" },
  deviceReadBps: unsupportedList,
  deviceReadIops: unsupportedList,
  deviceRequests,
  deviceWriteBps: unsupportedList,
  deviceWriteIops: unsupportedList,
  devices: {
    kind: "objects",
    replaces: true,
    shape: {
      hostPath: { ...textAnew, ...required },
      containerPath: textAnew,
      permissions: { ...textAnew, default: "rwm" },
    },
  },
  dns: setAnew,
  dnsOpts: setAnew,
  dnsSearches: setAnew,
  domainname: textAnew,
  entrypoints: { kind: "strings", order: "list", replaces: true, computed: true },
  envs: { ...setAnew, ...computed },
  exitCode: { kind: "integer", ...told },
  gpus: textAnew,
  groupAdds: setAnew,
  healthcheck,
  hostname: { ...textAnew, ...computed },
  hosts: {
    kind: "objects",
    replaces: true,
    shape: { host: { ...textAnew, ...required }, ip: { ...textAnew, ...required } },
  },
  init: { kind: "boolean", ...computed },
  ipcMode: { ...textAnew, ...computed },
  labels: { ...labels, ...computed },
  logDriver: { ...textAnew, ...computed },
  logOpts: mapAnew,
  logs: { kind: "boolean", default: false },
  maxRetryCount: { kind: "integer" },
  memory: amount,
  memoryReservation: { ...amount, default: 0 },
  memorySwap: { kind: "integer", atLeast: -1 },
  mounts,
  mustRun: { kind: "boolean", default: true },
  networkDatas: {
    kind: "objects",
    ...told,
    shape: {
      networkName: text,
      ipAddress: text,
      ipPrefixLength: { kind: "integer" },
      gateway: text,
      globalIpv6Address: text,
      globalIpv6PrefixLength: { kind: "integer" },
      ipv6Gateway: text,
      macAddress: text,
    },
  },
  networkMode: { ...textAnew, default: "bridge" },
  networksAdvanced,
  pidMode: textAnew,
  platform: { ...textAnew, ...computed },
  ports,
  privileged: flagAnew,
  publishAllPorts: flagAnew,
  readOnly: { ...flagAnew, default: false },
  removeVolumes: { kind: "boolean", default: true },
  restart: { ...text, default: "no", pattern: /^(no|on-failure|always|unless-stopped)$/ },
  rm: { kind: "boolean", default: false },
  runtime: { ...textAnew, ...computed },
  securityOpts: { ...setAnew, ...computed },
  shmSize: { ...amount, replaces: true, ...computed },
  start: { kind: "boolean", default: true },
  stdinOpen: { ...flagAnew, default: false },
  stopSignal: { ...textAnew, ...computed },
  stopTimeout: { ...numberAnew, ...computed },
  storageOpts: mapAnew,
  sysctls: mapAnew,
  tmpfs: { kind: "map" },
  tty: { ...flagAnew, default: false },
  ulimits: {
    kind: "objects",
    replaces: true,
    shape: {
      name: { ...textAnew, ...required },
      soft: { ...numberAnew, ...required },
      hard: { ...numberAnew, ...required },
    },
  },
  uploads: unsupportedList,
  user: { ...textAnew, emptyKeeps: true },
  usernsMode: textAnew,
  volumes,
  wait: { kind: "boolean", default: false },
  waitTimeout: { kind: "integer", default: 60 },
  workingDir: { ...textAnew, emptyKeeps: true },
} as const satisfies Shape;

export const volumeShape = {
  name: { ...textAnew, ...computed },
  driver: { ...textAnew, ...computed },
  driverOpts: mapAnew,
  labels,
  cluster: { kind: "object", shape: {}, unsupported: true },
  mountpoint: { ...text, ...told },
} as const satisfies Shape;

export const networkShape = {
  name: { ...textAnew, ...required },
  attachable: flagAnew,
  driver: { ...textAnew, ...computed },
  ingress: flagAnew,
  internal: { ...flagAnew, ...computed },
  ipamConfigs: {
    kind: "objects",
    replaces: true,
    computed: true,
    shape: { subnet: textAnew, ipRange: textAnew, gateway: textAnew, auxAddress: mapAnew },
  },
  ipamDriver: { ...textAnew, default: "default" },
  ipamOptions: mapAnew,
  ipv6: flagAnew,
  labels,
  options: { ...mapAnew, ...computed },
  scope: { ...text, ...told },
} as const satisfies Shape;

export const remoteImageShape = {
  name: { ...textAnew, ...required },
  build: { kind: "object", shape: {}, unsupported: true },
  forceRemove: { kind: "boolean" },
  imageId: { ...text, ...told },
  keepLocally: { kind: "boolean" },
  platform: { ...textAnew, default: "" },
  pullTriggers: setAnew,
  repoDigest: { ...text, ...told },
  triggers: mapAnew,
} as const satisfies Shape;
