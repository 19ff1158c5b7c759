import type { ContainerInspectInfo } from "dockerode";
import { formatDuration } from "./duration.ts";
import { gpuSetting } from "./gpus.ts";
import { objects, text } from "./read-properties.ts";
import { isZero, type Properties, type Value } from "./shape.ts";

const mebibyte = 1024 * 1024;

/** What the engine tells of a container beyond dockerode's types, by the names of its API. */
interface Inspection extends ContainerInspectInfo {
  readonly Config: ContainerInspectInfo["Config"] & { readonly StopSignal?: string; readonly StopTimeout?: number };
}

const mebibytes = (value: number | undefined): number => {
  const size = value ?? 0;
  return size > 0 ? Math.floor(size / mebibyte) : size;
};

function ports(inspection: Inspection): readonly Properties[] {
  const entries = Object.entries(inspection.NetworkSettings.Ports ?? {});
  return entries
    .sort(([a], [b]) => Number.parseInt(a, 10) - Number.parseInt(b, 10))
    .flatMap(([port, bindings]) => {
      const [internal = "0", protocol = "tcp"] = port.split("/");
      return (bindings ?? []).map((one) => ({
        internal: Number(internal),
        external: Number(one.HostPort),
        ip: one.HostIp,
        protocol,
      }));
    });
}

function networks(inspection: Inspection): readonly Properties[] {
  return Object.entries(inspection.NetworkSettings.Networks ?? {}).map(([networkName, one]) => ({
    networkName,
    ipAddress: one.IPAddress,
    ipPrefixLength: one.IPPrefixLen,
    gateway: one.Gateway,
    globalIpv6Address: one.GlobalIPv6Address,
    globalIpv6PrefixLength: one.GlobalIPv6PrefixLen,
    ipv6Gateway: one.IPv6Gateway,
    macAddress: one.MacAddress,
  }));
}

function mounts(inspection: Inspection): readonly Properties[] {
  return (inspection.HostConfig.Mounts ?? []).map((one) => ({
    target: one.Target,
    source: one.Source ?? "",
    type: one.Type,
    readOnly: one.ReadOnly ?? false,
    ...(one.BindOptions ? { bindOptions: { propagation: one.BindOptions.Propagation } } : {}),
    ...(one.TmpfsOptions
      ? { tmpfsOptions: { sizeBytes: one.TmpfsOptions.SizeBytes, mode: one.TmpfsOptions.Mode } }
      : {}),
  }));
}

function healthcheck(inspection: Inspection): Properties | undefined {
  const check = inspection.Config.Healthcheck;
  if (check === undefined || check === null) return undefined;
  return {
    tests: [...(check.Test ?? [])],
    interval: formatDuration(check.Interval ?? 0),
    timeout: formatDuration(check.Timeout ?? 0),
    startPeriod: formatDuration(check.StartPeriod ?? 0),
    startInterval: formatDuration(check.StartInterval ?? 0),
    retries: check.Retries ?? 0,
  };
}

function devices(inspection: Inspection, before: Properties): readonly Properties[] {
  const explicit = new Set(
    objects(before.devices)
      .filter((one) => text(one.containerPath) !== undefined)
      .map((one) => one.hostPath),
  );
  const found: readonly { PathOnHost: string; PathInContainer: string; CgroupPermissions: string }[] =
    inspection.HostConfig.Devices ?? [];
  return found.map((one) => ({
    hostPath: one.PathOnHost,
    permissions: one.CgroupPermissions,
    ...(explicit.has(one.PathOnHost) ? { containerPath: one.PathInContainer } : {}),
  }));
}

function deviceSettings(inspection: Inspection, before: Properties): Properties {
  const requests = inspection.HostConfig.DeviceRequests ?? [];
  const told: Record<string, Value> = {};
  if (!isZero(before.devices)) told.devices = devices(inspection, before);
  if (!isZero(before.gpus)) told.gpus = gpuSetting(requests) ?? before.gpus ?? null;
  else if (!isZero(before.deviceRequests)) {
    told.deviceRequests = requests.map((one) => ({
      driver: one.Driver ?? "",
      count: one.Count ?? 0,
      ...(one.DeviceIDs?.length ? { deviceIds: one.DeviceIDs } : {}),
      ...(one.Capabilities?.[0]?.length ? { capabilities: one.Capabilities[0] } : {}),
      ...(one.Options && Object.keys(one.Options).length > 0 ? { options: one.Options } : {}),
    }));
  }
  return told;
}

function hosts(inspection: Inspection): readonly Properties[] {
  const found: readonly string[] = inspection.HostConfig.ExtraHosts ?? [];
  return found.map((one) => {
    const [host = "", ip = ""] = one.split(":");
    return { host, ip };
  });
}

function processSettings({ Config: config }: Inspection): Properties {
  return {
    hostname: config.Hostname,
    domainname: config.Domainname,
    command: config.Cmd ?? [],
    entrypoints: typeof config.Entrypoint === "string" ? [config.Entrypoint] : (config.Entrypoint ?? []),
    user: config.User,
    workingDir: config.WorkingDir,
    tty: config.Tty,
    stdinOpen: config.OpenStdin,
    stopSignal: config.StopSignal ?? "",
    stopTimeout: config.StopTimeout ?? 0,
  };
}

function limits({ HostConfig: host }: Inspection, before: Properties): Properties {
  return {
    restart: host.RestartPolicy?.Name ?? "",
    maxRetryCount: host.RestartPolicy?.MaximumRetryCount ?? 0,
    memory: mebibytes(host.Memory),
    memoryReservation: mebibytes(host.MemoryReservation),
    memorySwap: mebibytes(host.MemorySwap),
    shmSize: mebibytes(host.ShmSize),
    cpuShares: host.CpuShares ?? 0,
    cpuSet: host.CpusetCpus ?? "",
    ...(host.NanoCpus ? { cpus: String(host.NanoCpus / 1e9) } : {}),
    ulimits: (host.Ulimits ?? []).map((one) => ({ name: one.Name ?? "", soft: one.Soft ?? 0, hard: one.Hard ?? 0 })),
    logOpts: isZero(before.logOpts) ? {} : (host.LogConfig?.Config ?? {}),
  };
}

function isolation({ HostConfig: host }: Inspection): Properties {
  const capabilities = { adds: host.CapAdd ?? [], drops: host.CapDrop ?? [] };
  return {
    dns: host.Dns ?? [],
    dnsOpts: host.DnsOptions ?? [],
    dnsSearches: host.DnsSearch ?? [],
    securityOpts: host.SecurityOpt ?? [],
    publishAllPorts: host.PublishAllPorts ?? false,
    init: host.Init ?? false,
    ...(isZero(capabilities.adds) && isZero(capabilities.drops) ? {} : { capabilities }),
    runtime: host.Runtime ?? "",
    tmpfs: host.Tmpfs ?? {},
    privileged: host.Privileged ?? false,
    logDriver: host.LogConfig?.Type ?? "",
    storageOpts: host.StorageOpt ?? {},
    networkMode: host.NetworkMode ?? "",
    pidMode: host.PidMode ?? "",
    usernsMode: host.UsernsMode ?? "",
    sysctls: host.Sysctls ?? {},
    ipcMode: host.IpcMode ?? "",
    groupAdds: (host.GroupAdd ?? []).map(String),
    readOnly: host.ReadonlyRootfs ?? false,
    rm: host.AutoRemove ?? false,
  };
}

/**
 * The state of a container: what the engine tells of it over what was known before (the inputs when it is created, the
 * last state after that). Environment and labels are not read back, because the image's are mixed into them.
 */
export function containerState(before: Properties, inspection: ContainerInspectInfo): Properties {
  const container: Inspection = inspection;
  const running = container.State.Running;
  const mustRun = before.mustRun === true;
  const byId = text(before.image)?.startsWith("sha256:") === true;
  const check = healthcheck(container);
  return {
    envs: [],
    labels: [],
    ...before,
    ...processSettings(container),
    ...limits(container, before),
    ...isolation(container),
    ...deviceSettings(container, before),
    ...(running || mustRun ? { ports: ports(container) } : {}),
    ...(running ? {} : { exitCode: container.State.ExitCode, mustRun: false }),
    ...(check === undefined ? {} : { healthcheck: check }),
    name: container.Name.replace(/^\/+/, ""),
    image: byId ? container.Image : container.Config.Image,
    platform: container.Platform,
    mounts: mounts(container),
    hosts: hosts(container),
    bridge: "",
    networkDatas: networks(container),
  };
}
