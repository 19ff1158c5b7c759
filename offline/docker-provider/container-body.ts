import type { ContainerCreateOptions, DeviceRequest, HostConfig, MountConfig, MountSettings } from "dockerode";
import { parseDuration } from "./duration.ts";
import { gpuRequest } from "./gpus.ts";
import { flag, integer, labelMap, object, objects, stringMap, strings, text } from "./read-properties.ts";
import type { Properties } from "./shape.ts";

const mebibyte = 1024 * 1024;

/** Drops what is undefined, so that the engine's own defaults hold. */
function given<T extends object>(value: { [Name in keyof T]: T[Name] | undefined }): T {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as T;
}

function some<T>(list: readonly T[]): T[] | undefined {
  return list.length === 0 ? undefined : [...list];
}

function bytes(mebibytes: number | undefined): number | undefined {
  if (mebibytes === undefined || mebibytes === 0) return undefined;
  return mebibytes > 0 ? mebibytes * mebibyte : mebibytes;
}

/** Billionths of a CPU of a decimal like `1.5`. */
export function nanoCpus(setting: string): number {
  if (!/^\d*\.?\d+$|^\d+\.$/.test(setting))
    throw new Error(`Error setting cpus: failed to parse ${setting} as a rational number`);
  const nano = Number(setting) * 1e9;
  if (Math.abs(nano - Math.round(nano)) > 1e-6) throw new Error("Error setting cpus: value is too precise");
  return Math.round(nano);
}

function mountSettings(one: Properties): MountSettings {
  const type = text(one.type) as MountSettings["Type"];
  const bind = object(one.bindOptions);
  const tmpfs = object(one.tmpfsOptions);
  const settings = {
    Type: type,
    Target: text(one.target) ?? "",
    Source: text(one.source) ?? "",
    ReadOnly: flag(one.readOnly),
    BindOptions: type === "bind" && bind ? { Propagation: text(bind.propagation) ?? "" } : undefined,
    TmpfsOptions:
      type === "tmpfs" && tmpfs
        ? { SizeBytes: integer(tmpfs.sizeBytes) ?? 0, Mode: integer(tmpfs.mode) ?? 0 }
        : undefined,
    VolumeOptions: type === "volume" ? volumeOptions(object(one.volumeOptions)) : undefined,
  };
  return given(settings) as MountSettings;
}

function volumeOptions(options: Properties | undefined) {
  if (options === undefined) return undefined;
  return {
    NoCopy: flag(options.noCopy),
    Labels: labelMap(options.labels) ?? {},
    DriverConfig: { Name: text(options.driverName) ?? "", Options: stringMap(options.driverOptions) ?? {} },
    ...(text(options.subpath) === undefined ? {} : { Subpath: text(options.subpath) }),
  };
}

interface VolumeSettings {
  readonly anonymous: Record<string, object>;
  readonly binds: readonly string[];
  readonly from: readonly string[];
}

export function volumeSettings(volumes: readonly Properties[]): VolumeSettings {
  const anonymous: Record<string, object> = {};
  const binds: string[] = [];
  const from: string[] = [];
  for (const one of volumes) {
    const container = text(one.fromContainer);
    const path = text(one.containerPath);
    const source = text(one.volumeName) ?? text(one.hostPath);
    if (container === undefined && path === undefined) {
      throw new Error("Unable to parse volumes: volume entry without container path or source container");
    }
    if (container !== undefined && path !== undefined) {
      throw new Error("Unable to parse volumes: both a container and a path specified in a volume entry");
    }
    if (container !== undefined) from.push(container);
    else if (path !== undefined) {
      anonymous[path] = {};
      const label = text(one.selinuxRelabel);
      if (source) binds.push(`${source}:${path}:${flag(one.readOnly) ? "ro" : "rw"}${label ? `,${label}` : ""}`);
    }
  }
  return { anonymous, binds, from };
}

function portSettings(ports: readonly Properties[]) {
  const exposed: Record<string, object> = {};
  const bindings: Record<string, { HostPort: string; HostIp: string }[]> = {};
  for (const one of ports) {
    const port = `${integer(one.internal)}/${text(one.protocol) ?? "tcp"}`;
    exposed[port] = {};
    bindings[port] ??= [];
    bindings[port].push({ HostPort: String(integer(one.external) ?? 0), HostIp: text(one.ip) ?? "" });
  }
  return { exposed, bindings };
}

function healthcheck(value: Properties | undefined) {
  if (value === undefined) return undefined;
  const nanoseconds = (name: string) => parseDuration(text(value[name]) ?? "0s") ?? 0;
  return {
    Test: [...strings(value.tests)],
    Interval: nanoseconds("interval"),
    Timeout: nanoseconds("timeout"),
    StartPeriod: nanoseconds("startPeriod"),
    StartInterval: nanoseconds("startInterval"),
    Retries: integer(value.retries) ?? 0,
  };
}

function deviceRequests(inputs: Properties): DeviceRequest[] | undefined {
  const gpus = text(inputs.gpus);
  if (gpus !== undefined) return [gpuRequest(gpus)];
  return some(
    objects(inputs.deviceRequests).map((one) => ({
      Driver: text(one.driver) ?? "",
      Count: integer(one.count) ?? 0,
      DeviceIDs: [...strings(one.deviceIds)],
      Capabilities: [[...strings(one.capabilities)]],
      Options: stringMap(one.options) ?? {},
    })),
  );
}

/** The security options, and the paths that `systempaths=unconfined` uncovers: that one is the client's to act on. */
function security(options: readonly string[]) {
  const unconfined = options.includes("systempaths=unconfined");
  const rest = options.filter((one) => one !== "systempaths=unconfined");
  return {
    SecurityOpt: options.length === 0 ? undefined : rest,
    ...(unconfined ? { MaskedPaths: [], ReadonlyPaths: [] } : {}),
  };
}

function cpuSettings(inputs: Properties) {
  const cpus = text(inputs.cpus);
  if (cpus !== undefined) return { NanoCpus: nanoCpus(cpus) };
  return { CpuPeriod: integer(inputs.cpuPeriod), CpuQuota: integer(inputs.cpuQuota) };
}

/** The limits that can be changed while a container runs. */
export function limits(inputs: Properties): HostConfig {
  return given<HostConfig>({
    Memory: bytes(integer(inputs.memory)),
    MemoryReservation: bytes(integer(inputs.memoryReservation)),
    MemorySwap: bytes(integer(inputs.memorySwap)),
    CpuShares: integer(inputs.cpuShares) || undefined,
    CpusetCpus: text(inputs.cpuSet),
    RestartPolicy: { Name: text(inputs.restart) ?? "no", MaximumRetryCount: integer(inputs.maxRetryCount) ?? 0 },
  });
}

function hostConfig(inputs: Properties): HostConfig {
  const volumes = volumeSettings(objects(inputs.volumes));
  const capabilities = object(inputs.capabilities);
  const { bindings } = portSettings(objects(inputs.ports));
  return {
    ...limits(inputs),
    ...given<HostConfig>({
      Privileged: flag(inputs.privileged),
      PublishAllPorts: flag(inputs.publishAllPorts),
      Runtime: text(inputs.runtime),
      Mounts: objects(inputs.mounts).map(mountSettings) as MountConfig,
      AutoRemove: flag(inputs.rm),
      ReadonlyRootfs: flag(inputs.readOnly),
      LogConfig: { Type: text(inputs.logDriver) ?? "", Config: stringMap(inputs.logOpts) ?? {} },
      Tmpfs: stringMap(inputs.tmpfs),
      PortBindings: Object.keys(bindings).length === 0 ? undefined : bindings,
      ExtraHosts: some(objects(inputs.hosts).map((one) => `${text(one.host) ?? ""}:${text(one.ip) ?? ""}`)),
      Binds: some(volumes.binds),
      VolumesFrom: some(volumes.from),
      Ulimits: some(
        objects(inputs.ulimits).map((one) => ({
          Name: text(one.name) ?? "",
          Soft: integer(one.soft) ?? 0,
          Hard: integer(one.hard) ?? 0,
        })),
      ),
      CapAdd: some(strings(capabilities?.adds)),
      CapDrop: some(strings(capabilities?.drops)),
      Devices: some(
        objects(inputs.devices).map((one) => ({
          PathOnHost: text(one.hostPath) ?? "",
          PathInContainer: text(one.containerPath) ?? text(one.hostPath) ?? "",
          CgroupPermissions: text(one.permissions) ?? "rwm",
        })),
      ),
      DeviceRequests: deviceRequests(inputs),
      Dns: some(strings(inputs.dns)),
      DnsOptions: some(strings(inputs.dnsOpts)),
      DnsSearch: some(strings(inputs.dnsSearches)),
      ShmSize: bytes(integer(inputs.shmSize)),
      NetworkMode: text(inputs.networkMode),
      UsernsMode: text(inputs.usernsMode),
      PidMode: text(inputs.pidMode),
      Sysctls: stringMap(inputs.sysctls),
      IpcMode: text(inputs.ipcMode),
      GroupAdd: some(strings(inputs.groupAdds)),
      CgroupParent: text(inputs.cgroupParent),
      Init: flag(inputs.init),
      StorageOpt: stringMap(inputs.storageOpts),
    }),
    ...given<HostConfig>({ ...security(strings(inputs.securityOpts)), ...cpuSettings(inputs) }),
    ...(text(inputs.cgroupnsMode) === undefined ? {} : { CgroupnsMode: text(inputs.cgroupnsMode) }),
  };
}

/** The request that creates a container as its checked inputs say. */
export function createRequest(inputs: Properties): ContainerCreateOptions {
  const ports = portSettings(objects(inputs.ports));
  const volumes = volumeSettings(objects(inputs.volumes));
  const command = strings(inputs.command);
  if (command.includes("")) throw new Error("values for command may not be empty");
  const request = {
    name: text(inputs.name),
    platform: text(inputs.platform),
    Image: text(inputs.image),
    Hostname: text(inputs.hostname) ?? "",
    Domainname: text(inputs.domainname) ?? "",
    Tty: flag(inputs.tty),
    OpenStdin: flag(inputs.stdinOpen),
    StopSignal: text(inputs.stopSignal),
    StopTimeout: integer(inputs.stopTimeout) || undefined,
    Env: some(strings(inputs.envs)),
    Cmd: some(command),
    Entrypoint: some(strings(inputs.entrypoints)),
    User: text(inputs.user),
    ExposedPorts: Object.keys(ports.exposed).length === 0 ? undefined : ports.exposed,
    WorkingDir: text(inputs.workingDir),
    Volumes: Object.keys(volumes.anonymous).length === 0 ? undefined : volumes.anonymous,
    Labels: labelMap(inputs.labels),
    Healthcheck: healthcheck(object(inputs.healthcheck)),
    HostConfig: hostConfig(inputs),
  };
  return given(request) as ContainerCreateOptions;
}
