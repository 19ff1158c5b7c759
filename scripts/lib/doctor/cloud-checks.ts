import { GPU_TYPES, type GpuTypeName } from "../../../stacks/settings/gpu-types.ts";
import { INSTALL, quotaRemedy } from "../gcloud/errors.ts";
import { type Check, fail, ok, warn } from "./check.ts";

/** A quota as Compute Engine tells it. */
export interface Quota {
  /** Example: `PREEMPTIBLE_NVIDIA_L4_GPUS`. */
  readonly metric: string;
  readonly limit: number;
  readonly usage: number;
}

/** What a stack wants of Google Cloud. */
export interface CloudWanted {
  readonly stack: string;
  /** Block of the settings that names all this. */
  readonly block: "gcp" | "gke";
  readonly project: string;
  readonly region: string;
  readonly zones: readonly string[];
  readonly gpus: readonly GpuTypeName[];
  readonly provisioning: "spot" | "standard";
  /** Services of Google's that the stack needs. Example: `compute`. */
  readonly services: readonly string[];
}

/** What is wanted of Google Cloud, and what gcloud told; what could not be asked is left out. */
export interface CloudFacts extends CloudWanted {
  readonly gcloud: boolean;
  /** gcloud's plugin by which Pulumi and kubectl log in to a cluster is there. */
  readonly clusterPlugin?: boolean;
  /** Who is logged in. */
  readonly account?: string | undefined;
  /** Pulumi has a login of its own, Google's application default credentials. */
  readonly applicationDefault?: boolean;
  /** The project is there, for this login. */
  readonly found?: boolean;
  /** Services that are on. Example: `compute.googleapis.com`. */
  readonly enabled?: readonly string[] | undefined;
  readonly regional?: readonly Quota[] | undefined;
  readonly global?: readonly Quota[] | undefined;
  /** Zones in which Google offers each machine type. */
  readonly offered?: ReadonlyMap<string, readonly string[]> | undefined;
}

const ALL_REGIONS = "GPUS_ALL_REGIONS";

/** Everything that a stack needs of Google Cloud, in the order in which it is mended. */
export function cloudChecks(facts: CloudFacts): readonly Check[] {
  if (!facts.gcloud) return [fail("gcloud", "is not installed", INSTALL)];
  if (facts.account === undefined) return [fail("gcloud", "nobody is logged in", "gcloud auth login")];
  const login = [
    ok("gcloud", `logged in as ${facts.account}`),
    applicationCheck(facts.applicationDefault === true),
    ...(facts.block === "gke" ? [pluginCheck(facts.clusterPlugin === true)] : []),
  ];
  if (facts.found !== true) return [...login, projectMissing(facts)];
  return [
    ...login,
    ok("project", facts.project),
    servicesCheck(facts),
    ...(facts.enabled?.includes("compute.googleapis.com") === true
      ? [...quotaChecks(facts), ...zoneChecks(facts)]
      : []),
  ];
}

function applicationCheck(there: boolean): Check {
  return there
    ? ok("Pulumi's login", "application default credentials")
    : fail("Pulumi's login", "there are no application default credentials", "gcloud auth application-default login");
}

function pluginCheck(there: boolean): Check {
  const plugin = "gke-gcloud-auth-plugin";
  return there
    ? ok("cluster login", plugin)
    : fail("cluster login", `${plugin} is not installed`, `gcloud components install ${plugin}`);
}

function projectMissing({ project, stack, block }: CloudFacts): Check {
  return fail(
    "project",
    `${project} is none that this login can see`,
    `gcloud projects list shows yours; npx pulumi config set --stack ${stack} --path 'tunestack:${block}.project' ID`,
  );
}

/** `pulumi up` switches on what is off, and Google takes a minute or two for it. */
function servicesCheck({ services, enabled, project }: CloudFacts): Check {
  const wanted = services.map((service) => `${service}.googleapis.com`);
  if (enabled === undefined)
    return warn("APIs", "cannot be listed", `gcloud services enable serviceusage.googleapis.com --project ${project}`);
  const off = wanted.filter((service) => !enabled.includes(service));
  return off.length === 0
    ? ok("APIs", `${wanted.length} are on`)
    : warn("APIs", `${off.join(", ")} are off`, `gcloud services enable ${off.join(" ")} --project ${project}`);
}

/** One kind of GPU with quota will do. */
function quotaChecks(facts: CloudFacts): readonly Check[] {
  const { project, region, gpus, global } = facts;
  const all = global?.find(({ metric }) => metric === ALL_REGIONS);
  const total =
    all === undefined
      ? []
      : [
          all.limit - all.usage >= 1
            ? ok("GPU quota", `${all.limit - all.usage} of ${all.limit} in all regions free`)
            : fail(
                "GPU quota",
                `${all.usage} of ${all.limit} in all regions used`,
                quotaRemedy(project, ALL_REGIONS, undefined),
              ),
        ];
  const rooms = gpus.map((gpu) => ({ gpu, metric: metricOf(gpu, facts), free: freeOf(gpu, facts) }));
  const some = rooms.some(({ free }) => free === undefined || free >= 1);
  const each = rooms.map(({ gpu, metric, free }): Check => {
    const name = `quota ${gpu}`;
    if (free === undefined)
      return warn(
        name,
        `${region} does not tell it`,
        `https://console.cloud.google.com/iam-admin/quotas?project=${project} does`,
      );
    if (free >= 1) return ok(name, `${free} free in ${region}`);
    return (some ? warn : fail)(name, `none free in ${region}`, quotaRemedy(project, metric, region));
  });
  return [...total, ...each];
}

function metricOf(gpu: GpuTypeName, { provisioning }: CloudFacts): string {
  return provisioning === "spot" ? `PREEMPTIBLE_${GPU_TYPES[gpu].quota}` : GPU_TYPES[gpu].quota;
}

/** Without a quota for spot, Google takes it from the ordinary one. */
function freeOf(gpu: GpuTypeName, facts: CloudFacts): number | undefined {
  const room = (metric: string) => {
    const quota = facts.regional?.find((one) => one.metric === metric);
    return quota === undefined ? undefined : quota.limit - quota.usage;
  };
  const own = room(metricOf(gpu, facts));
  const ordinary = room(GPU_TYPES[gpu].quota);
  return own === undefined && ordinary === undefined ? undefined : Math.max(own ?? 0, ordinary ?? 0);
}

function zoneChecks({ gpus, zones, offered, stack, block }: CloudFacts): readonly Check[] {
  if (offered === undefined) return [];
  const found = gpus.map((gpu) => {
    const at = offered.get(GPU_TYPES[gpu].machineType) ?? [];
    return { gpu, there: zones.filter((zone) => at.includes(zone)), elsewhere: at };
  });
  const some = found.some(({ there }) => there.length > 0);
  return found.map(({ gpu, there, elsewhere }): Check => {
    const name = `zones ${gpu}`;
    if (there.length === zones.length) return ok(name, there.join(", "));
    if (there.length > 0)
      return ok(name, `${there.join(", ")}; not in ${zones.filter((zone) => !there.includes(zone)).join(", ")}`);
    const known = elsewhere.length > 0 ? elsewhere : GPU_TYPES[gpu].zones;
    return (some ? warn : fail)(
      name,
      `in none of ${zones.join(", ")}`,
      `it is in ${known.slice(0, 6).join(", ")}: npx pulumi config set --stack ${stack} --path 'tunestack:${block}.zones[0]' ZONE (and ${block}.region)`,
    );
  });
}
