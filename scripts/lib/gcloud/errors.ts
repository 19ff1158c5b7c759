import type { Problem } from "../../../stacks/settings/problems.ts";
import { EXIT, type ExitCode, UserError } from "../errors.ts";

export interface Asked {
  readonly project: string;
  readonly stack: string;
}

interface Known {
  /** What gcloud or a service of Google's says. */
  readonly pattern: RegExp;
  readonly problem: (asked: Asked, match: RegExpExecArray) => Problem;
  readonly exitCode: ExitCode;
}

export const INSTALL =
  "curl -fsSL https://sdk.cloud.google.com | bash, open a new shell, then gcloud auth login && gcloud auth application-default login";

/** What goes wrong with Google Cloud, by its own words, with the command that mends it. The first that matches counts. */
const KNOWN: readonly Known[] = [
  {
    pattern: /do not currently have an active account selected|gcloud auth login|Reauthentication failed|invalid_grant/,
    problem: () => ({
      path: "gcloud",
      reason: "nobody is logged in, or the login has run out",
      remedy: "gcloud auth login && gcloud auth application-default login",
    }),
    exitCode: EXIT.settings,
  },
  {
    pattern:
      /API \[([a-z]+\.googleapis\.com)\] not enabled|([a-z]+\.googleapis\.com)[^\n]*(?:SERVICE_DISABLED|has not been used in project|is not enabled)|(?:SERVICE_DISABLED|has not been used in project)[\s\S]*?([a-z]+\.googleapis\.com)/,
    problem: ({ project }, match) => {
      const service = match[1] ?? match[2] ?? match[3];
      return {
        path: `project ${project}`,
        value: service,
        reason: "is not enabled in it",
        remedy: `gcloud services enable ${service} --project ${project}`,
      };
    },
    exitCode: EXIT.settings,
  },
  {
    pattern: /Quota '([A-Z0-9_]+)' exceeded\.?\s+Limit: ([\d.]+)(?:[^\n]*? in region ([a-z0-9-]+))?/,
    problem: ({ project }, match) => ({
      path: `quota ${match[1]}`,
      value: `${Number(match[2])}${match[3] === undefined ? "" : ` in ${match[3]}`}`,
      reason: "is used up, so that no such GPU can be rented",
      remedy: quotaRemedy(project, match[1] ?? "", match[3]),
    }),
    exitCode: EXIT.machine,
  },
  {
    pattern: /ZONE_RESOURCE_POOL_EXHAUSTED|does not have enough resources available/,
    problem: ({ stack }) => ({
      path: "zones",
      reason: "have no such GPU free at the moment",
      remedy: `wait, since the group goes on trying; or allow more zones or kinds: npx pulumi config set --stack ${stack} --path 'tunestack:gcp.gpus[1]' A100-40, then npx pulumi up --stack ${stack}`,
    }),
    exitCode: EXIT.machine,
  },
  {
    pattern:
      /4033: 'not authorized'|iap\.tunnelInstances\.accessViaIAP|compute\.instances\.osAdminLogin|iam\.serviceAccounts\.actAs/,
    problem: ({ stack }) => ({
      path: "gcp.access",
      reason: "does not let you in through Identity-Aware Proxy",
      remedy: `npx pulumi config set --stack ${stack} --path 'tunestack:gcp.access[0]' user:YOU@example.com, then npx pulumi up --stack ${stack} (gcloud config get account tells who you are)`,
    }),
    exitCode: EXIT.settings,
  },
  {
    pattern:
      /Required '([a-z]+\.[A-Za-z.]+)' permission|Permission '?([a-z]+\.[A-Za-z.]+)'? denied|does not have ([a-z]+\.[A-Za-z.]+) access/,
    problem: ({ project }, match) => ({
      path: `project ${project}`,
      value: match[1] ?? match[2] ?? match[3],
      reason: "is a right that your login does not have",
      remedy: `an owner of the project types: gcloud projects add-iam-policy-binding ${project} --member user:YOU@example.com --role roles/editor (or a role with that right)`,
    }),
    exitCode: EXIT.settings,
  },
  {
    pattern:
      /The project property is set to the empty string|project '?([a-z0-9-]+)'? (?:was not found|not found|does not exist)|Project '?([a-z0-9-]+)'? not found or permission denied/i,
    problem: ({ project, stack }) => ({
      path: "gcp.project",
      value: project,
      reason: "is no project that your login can see",
      remedy: `gcloud projects list shows yours; npx pulumi config set --stack ${stack} --path 'tunestack:gcp.project' ID sets it`,
    }),
    exitCode: EXIT.settings,
  },
  {
    pattern: /instanceGroupManagers\/[^']*' was not found|bucket does not exist/i,
    problem: ({ stack }) => ({
      path: `stack ${stack}`,
      reason: "is not in this project, or was taken down by hand",
      remedy: `npx pulumi refresh --stack ${stack}, then npx pulumi up --stack ${stack}`,
    }),
    exitCode: EXIT.stack,
  },
  {
    pattern:
      /Unable to (?:find the server|connect)|Network is unreachable|Temporary failure in name resolution|Connection refused|timed out/i,
    problem: (_asked, match) => ({
      path: "Google Cloud",
      value: match[0],
      reason: "does not answer",
      remedy: "check the network or a proxy (HTTPS_PROXY), then type the same command again",
    }),
    exitCode: EXIT.network,
  },
];

/** A failure of gcloud as a person can use it. */
export function explainGcloud(
  asked: Asked,
  args: readonly string[],
  { exitCode, stderr }: { readonly exitCode: number; readonly stderr: string },
): UserError {
  const known = exitCode === 127 ? missingGcloud() : explainKnownGcloud(asked, stderr);
  if (known !== undefined) return known;
  const said = stderr.trim().split("\n").slice(-6).join("\n    ");
  return new UserError(
    [
      {
        path: `gcloud ${args.slice(0, 4).join(" ")}`,
        reason: `ended with exit code ${exitCode}:\n    ${said}`,
        remedy: "mend what it says, then type the same command again",
      },
    ],
    EXIT.machine,
    "cloud",
  );
}

/** What is known of a text of Google's; undefined for what is not. */
export function explainKnownGcloud(asked: Asked, text: string): UserError | undefined {
  for (const { pattern, problem, exitCode } of KNOWN) {
    const match = pattern.exec(text);
    if (match !== null) return new UserError([problem(asked, match)], exitCode, "cloud");
  }
  return undefined;
}

export function missingGcloud(): UserError {
  return new UserError(
    [{ path: "gcloud", reason: "is not installed, and the way to the VM goes through it", remedy: INSTALL }],
    EXIT.machine,
    "cloud",
  );
}

/**
 * The command that asks Google for one GPU more.
 * @param metric as Compute Engine calls it. Example: `PREEMPTIBLE_NVIDIA_L4_GPUS`.
 * @param region undefined for a quota of the whole project.
 */
export function quotaRemedy(project: string, metric: string, region: string | undefined): string {
  const id = `${metric.replaceAll("_", "-")}-per-project${region === undefined ? "" : "-region"}`;
  const where = region === undefined ? "" : ` --dimensions region=${region}`;
  return `gcloud beta quotas preferences create --service compute.googleapis.com --project ${project} --quota-id ${id} --preferred-value 1${where}; Google answers by mail, within two working days at most`;
}
