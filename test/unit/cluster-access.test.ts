import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { readKubeconfig } from "../../k8s/access.ts";
import { openClient } from "../../scripts/lib/cluster/client.ts";
import { UserError } from "../../scripts/lib/errors.ts";

const folder = mkdtempSync(join(tmpdir(), "tunestack-access-"));
const servers: Server[] = [];
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** An API server that answers everything with one status. */
async function answering(status: number, message: string): Promise<string> {
  const server = createServer((_request, response) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(
      JSON.stringify({ kind: "Status", apiVersion: "v1", status: "Failure", message, code: status, items: [] }),
    );
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function kubeconfig(server: string, user: object = { token: "t" }): string {
  const file = join(folder, `${Math.random().toString(36).slice(2)}.yaml`);
  writeFileSync(
    file,
    stringify({
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "lab", cluster: { server, "insecure-skip-tls-verify": true } }],
      users: [{ name: "me", user }],
      contexts: [{ name: "lab", context: { cluster: "lab", user: "me" } }],
      "current-context": "lab",
    }),
  );
  return file;
}

async function refusal(file: string, context?: string): Promise<UserError> {
  const cluster = { namespace: "tunestack-team", kubeconfig: file, ...(context === undefined ? {} : { context }) };
  const error: unknown = await openClient({ stack: "team", cluster }).catch((caught: unknown) => caught);
  if (error instanceof UserError) return error;
  throw error instanceof Error ? error : new Error("nothing was refused");
}

describe("a cluster that cannot be asked says why, and what mends it", () => {
  test("no kubeconfig", () => {
    expect(() => readKubeconfig({ kubeconfig: join(folder, "none") })).toThrow(/there is no such file/);
  });

  test("a kubeconfig that is none", () => {
    const file = join(folder, "broken");
    writeFileSync(file, "{ not: [yaml");
    expect(() => readKubeconfig({ kubeconfig: file })).toThrow(/cannot be read/);
  });

  test("an unknown context", async () => {
    const { problems, exitCode } = await refusal(kubeconfig("http://127.0.0.1:1"), "prod");
    expect(exitCode).toBe(2);
    expect(problems).toEqual([
      expect.objectContaining({
        path: "kubernetes.context",
        value: "prod",
        reason: expect.stringMatching(/is no context of .*; it has lab$/),
        remedy: expect.stringContaining("kubectl config get-contexts"),
      }),
    ]);
  });

  test("an address where nobody listens", async () => {
    const { problems, exitCode } = await refusal(kubeconfig("http://127.0.0.1:1"));
    expect(exitCode).toBe(4);
    expect(problems[0]).toMatchObject({ path: "cluster lab", value: "http://127.0.0.1:1" });
    expect(problems[0]?.reason).toMatch(/does not answer: .*ECONNREFUSED/);
    expect(problems[0]?.remedy).toContain("kubectl --context lab cluster-info");
  });

  test("a login that has ended, with the command of the program that logs in", async () => {
    const server = await answering(401, "Unauthorized");
    const login = { exec: execOf("gke-gcloud-auth-plugin") };
    writeFileSync(
      join(folder, "gke-gcloud-auth-plugin"),
      `#!/bin/sh\necho '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"old"}}'\n`,
      { mode: 0o755 },
    );
    const { problems, exitCode } = await refusal(kubeconfig(server, login));
    expect(exitCode).toBe(3);
    expect(problems[0]).toMatchObject({ path: "cluster lab", value: "me", remedy: "gcloud auth login" });
    const token = await refusal(kubeconfig(server));
    expect(token.problems[0]?.remedy).toMatch(/log in again/);
  });

  test("a program for the login that is not installed, and one that fails", async () => {
    const server = await answering(200, "");
    const missing = await refusal(kubeconfig(server, { exec: execOf("no-such-program") }));
    expect(missing.problems[0]?.reason).toMatch(/no-such-program, which is not installed/);
    writeFileSync(join(folder, "aws"), "#!/bin/sh\necho 'The SSO session has expired' >&2\nexit 255\n", {
      mode: 0o755,
    });
    const failing = await refusal(kubeconfig(server, { exec: execOf("aws") }));
    expect(failing.problems[0]).toMatchObject({ reason: "The SSO session has expired", remedy: "aws sso login" });
  });

  test("no right", async () => {
    const message = 'pods is forbidden: User "me" cannot list resource "pods" in the namespace "tunestack-team"';
    const { problems, exitCode } = await refusal(kubeconfig(await answering(403, message)));
    expect(exitCode).toBe(3);
    expect(problems[0]).toMatchObject({ reason: message, remedy: expect.stringContaining("npm run doctor") });
  });
});

function execOf(program: string) {
  return {
    apiVersion: "client.authentication.k8s.io/v1",
    command: join(folder, program),
    args: [],
    interactiveMode: "Never",
  };
}
