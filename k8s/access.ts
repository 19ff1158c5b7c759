import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { ApiException, KubeConfig } from "@kubernetes/client-node";
import type { Problem } from "../stacks/settings/problems.ts";

/** Which cluster: a kubeconfig file, by default `~/.kube/config`, and a context in it, by default its current one. */
export interface ClusterAddress {
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
}

/** Why a cluster cannot be asked. */
export type Refusal = "kubeconfig" | "unreachable" | "login" | "rights";

/** A cluster that cannot be asked, with what mends it. */
export class ClusterError extends Error {
  override readonly name = "ClusterError";

  constructor(
    readonly refusal: Refusal,
    readonly problem: Problem,
  ) {
    super(`${problem.path}: ${problem.reason}`);
  }
}

/**
 * Reads the kubeconfig and chooses the context.
 * @throws ClusterError where there is no such file or context.
 */
export function readKubeconfig({ kubeconfig, context }: ClusterAddress): KubeConfig {
  const file = kubeconfig ?? join(homedir(), ".kube", "config");
  if (!existsSync(file))
    throw unreadable(file, "there is no such file", "name the cluster's kubeconfig: KUBECONFIG=FILE");
  const config = new KubeConfig();
  try {
    config.loadFromFile(file);
  } catch (error) {
    throw unreadable(file, `cannot be read: ${firstLine(error)}`, "kubectl config view shows what is wrong with it");
  }
  const known = config.getContexts().map(({ name }) => name);
  const wanted = context ?? config.getCurrentContext();
  if (config.getContextObject(wanted) === null || config.getContextObject(wanted) === undefined) {
    throw new ClusterError("kubeconfig", {
      path: "kubernetes.context",
      value: wanted === "" ? undefined : wanted,
      reason: `${wanted === "" ? `${file} has no current context` : `is no context of ${file}`}; it has ${known.length === 0 ? "none" : known.join(", ")}`,
      remedy:
        "npx pulumi config set --path 'tunestack:kubernetes.context' NAME; kubectl config get-contexts lists them",
    });
  }
  config.setCurrentContext(wanted);
  return config;
}

function unreadable(file: string, reason: string, remedy: string): ClusterError {
  return new ClusterError("kubeconfig", { path: "kubernetes.kubeconfig", value: file, reason, remedy });
}

/** What brings a login back, by the program that a kubeconfig names for it. */
const LOGINS: Readonly<Record<string, string>> = {
  "gke-gcloud-auth-plugin": "gcloud auth login",
  gcloud: "gcloud auth login",
  aws: "aws sso login",
  "aws-iam-authenticator": "aws sso login",
  kubelogin: "az login",
};

const NETWORK_CODES: readonly string[] = [
  ...["ECONNREFUSED", "ECONNRESET", "ENOTFOUND", "EAI_AGAIN", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "EPIPE"],
  ...["UND_ERR_CONNECT_TIMEOUT", "UND_ERR_HEADERS_TIMEOUT", "UND_ERR_BODY_TIMEOUT", "UND_ERR_SOCKET"],
];

/** What a failed call means for a person; undefined where it means nothing of the kind. */
export function explainCluster(config: KubeConfig, error: unknown): ClusterError | undefined {
  if (error instanceof ClusterError) return error;
  const status = statusOf(error);
  if (status === 401) return loginEnded(config, "the cluster does not take this login, which may have ended");
  if (status === 403) return forbidden(config, error);
  if (status !== undefined) return undefined;
  const { code, message, syscall, path } = causeOf(error);
  if (code === "ENOENT" && syscall?.startsWith("spawn") === true) {
    return loginEnded(config, `the kubeconfig logs in by the program ${path ?? "of its user"}, which is not installed`);
  }
  if (code !== undefined && (NETWORK_CODES.includes(code) || /CERT|SELF_SIGNED|TLS|SSL/.test(code)))
    return unreachable(config, message);
  // A program that logs in tells on its standard error why it could not.
  return logsInByProgram(config) ? loginEnded(config, firstLine(error)) : undefined;
}

/** Whether the same call may do a moment later. */
export function isPassing(error: unknown): boolean {
  const status = statusOf(error);
  if (status !== undefined) return status === 429 || status >= 500;
  return NETWORK_CODES.includes(causeOf(error).code ?? "");
}

/** HTTP status that the API server answered; undefined where it answered none. */
export function statusOf(error: unknown): number | undefined {
  if (error instanceof ApiException) return error.code;
  // What a WebSocket says of an answer that is not its protocol.
  const refused = /Unexpected server response: (\d{3})/.exec(
    error instanceof Error ? error.message : eventMessage(error),
  );
  return refused?.[1] === undefined ? undefined : Number(refused[1]);
}

/** What the API server said, in its own words. */
export function saidBy(error: unknown): string {
  if (error instanceof ApiException) {
    const body: unknown = typeof error.body === "string" ? parsed(error.body) : error.body;
    if (typeof body === "object" && body !== null && "message" in body && typeof body.message === "string")
      return body.message;
  }
  return firstLine(error);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function eventMessage(error: unknown): string {
  return typeof error === "object" && error !== null && "message" in error ? String(error.message) : "";
}

interface Cause {
  readonly code: string | undefined;
  readonly message: string;
  readonly syscall: string | undefined;
  readonly path: string | undefined;
}

/** The innermost error: a failed fetch and a failed WebSocket hold what happened as their cause. */
function causeOf(error: unknown): Cause {
  let here = error;
  for (let depth = 0; depth < 5; depth += 1) {
    const next = inner(here);
    if (next === undefined) break;
    here = next;
  }
  const field = (name: string) => {
    const value =
      typeof here === "object" && here !== null ? Object.entries(here).find(([key]) => key === name)?.[1] : undefined;
    return typeof value === "string" ? value : undefined;
  };
  return { code: field("code"), message: firstLine(here), syscall: field("syscall"), path: field("path") };
}

function inner(error: unknown): unknown {
  if (typeof error !== "object" || error === null) return undefined;
  if ("errors" in error && Array.isArray(error.errors) && error.errors.length > 0) return error.errors[0];
  if ("cause" in error && error.cause !== undefined) return error.cause;
  return "error" in error && error.error instanceof Error ? error.error : undefined;
}

function unreachable(config: KubeConfig, said: string): ClusterError {
  return new ClusterError("unreachable", {
    path: `cluster ${config.getCurrentContext()}`,
    value: config.getCurrentCluster()?.server,
    reason: `does not answer: ${said}`,
    remedy: `bring up the network or VPN that leads there; kubectl --context ${config.getCurrentContext()} cluster-info tries the same`,
  });
}

function loginEnded(config: KubeConfig, reason: string): ClusterError {
  const program = config.getCurrentUser()?.exec?.command?.split("/").at(-1);
  const login = program === undefined ? undefined : LOGINS[program];
  return new ClusterError("login", {
    path: `cluster ${config.getCurrentContext()}`,
    value: config.getCurrentUser()?.name,
    reason,
    remedy: login ?? "log in again as this cluster wants it, or get a new kubeconfig from whoever runs it",
  });
}

function forbidden(config: KubeConfig, error: unknown): ClusterError {
  return new ClusterError("rights", {
    path: `cluster ${config.getCurrentContext()}`,
    value: config.getCurrentUser()?.name,
    reason: saidBy(error),
    remedy: "ask whoever runs the cluster for this right; npm run doctor lists all that are missing",
  });
}

function logsInByProgram(config: KubeConfig): boolean {
  return config.getCurrentUser()?.exec !== undefined && config.getCurrentUser()?.exec !== null;
}

function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : eventMessage(error);
  return text.trim().split("\n")[0] ?? "";
}
