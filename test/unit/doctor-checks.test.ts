import { createCipheriv, pbkdf2Sync } from "node:crypto";
import { stripVTControlCharacters } from "node:util";
import { describe, expect, it } from "vitest";
import { type Check, formatChecks, ok, warn } from "../../scripts/lib/doctor/check.ts";
import {
  buildxCheck,
  diskCheck,
  engineCheck,
  gpuCheck,
  memoryCheck,
  sharedMemoryCheck,
} from "../../scripts/lib/doctor/machine-checks.ts";
import { hubCheck, modelCheck, registryCheck } from "../../scripts/lib/doctor/network-checks.ts";
import { lockCheck, passphraseCheck, pendingCheck, programCheck } from "../../scripts/lib/doctor/pulumi-checks.ts";
import { settingRows } from "../../scripts/lib/doctor/settings-table.ts";
import { leftOutCheck, orphanCheck, portChecks, serviceCheck } from "../../scripts/lib/doctor/stack-checks.ts";
import type { ContainerState } from "../../scripts/lib/workloads.ts";
import { resolveSettings } from "../../stacks/settings/resolve.ts";
import { gcpInputs, gkeInputs, kubernetesInputs } from "../lib/inputs.ts";

const GIB = 2 ** 30;
const ENGINE = { version: "27.3.1", at: "/var/run/docker.sock", storage: "overlay2" };
const HERE = { hostname: "desk", runsPulumi: (pid: number) => pid === 7 };
const LOCK = { pid: 8, username: "ann", hostname: "desk", timestamp: "2026-11-23T10:00:00Z" };
const HUB = { reachable: true, token: true, status: 200 };
const GEMMA = { id: "google/gemma-2-2b", gated: true };
const HEALTHY: ContainerState = {
  exists: true,
  reachable: true,
  running: true,
  health: "healthy",
  startedAt: undefined,
  exitCode: undefined,
  restarts: 0,
  lastCheck: "all well",
};

/** One accepting row and one rejecting row for each check. */
const CASES: readonly (readonly [string, () => Check, Check["status"], RegExp])[] = [
  ["GPU with its toolkit", () => gpuCheck({ driver: "560.35", toolkit: true }, "auto"), "ok", /560\.35/],
  ["GPU without the toolkit", () => gpuCheck({ driver: "560.35", toolkit: false }, "auto"), "fail", /toolkit/],
  ["no GPU, none asked for", () => gpuCheck({ driver: undefined, toolkit: false }, "auto"), "warn", /CPU/],
  ["no GPU, CUDA asked for", () => gpuCheck({ driver: undefined, toolkit: false }, "cuda"), "fail", /cuda/],
  ["GPU that is not wanted", () => gpuCheck({ driver: "560.35", toolkit: false }, "cpu"), "ok", /cpu/],
  ["engine", () => engineCheck(ENGINE), "ok", /27\.3\.1/],
  ["oldest engine", () => engineCheck({ ...ENGINE, version: "20.10.24+dfsg1" }), "ok", /20\.10\.24/],
  ["engine too old", () => engineCheck({ ...ENGINE, version: "19.03.9" }), "fail", /too old/],
  [
    "engine without rights",
    () => engineCheck({ problem: { path: "Docker engine", reason: "you have no right to use it", remedy: "usermod" } }),
    "fail",
    /no right/,
  ],
  ["buildx", () => buildxCheck("/usr/libexec/docker/cli-plugins/docker-buildx"), "ok", /docker-buildx/],
  ["no buildx", () => buildxCheck(undefined), "fail", /none/],
  ["disk", () => diskCheck({ folder: "/d", freeBytes: 30 * GIB, imagesThere: false }), "ok", /30 GiB free/],
  ["disk with images", () => diskCheck({ folder: "/d", freeBytes: 6 * GIB, imagesThere: true }), "ok", /6 GiB/],
  [
    "disk too small to build",
    () => diskCheck({ folder: "/d", freeBytes: 6 * GIB, imagesThere: false }),
    "fail",
    /takes/,
  ],
  ["disk getting full", () => diskCheck({ folder: "/d", freeBytes: 3 * GIB, imagesThere: true }), "warn", /little/],
  ["disk full", () => diskCheck({ folder: "/d", freeBytes: GIB / 2, imagesThere: true }), "fail", /may not fit/],
  ["memory", () => memoryCheck({ totalBytes: 32 * GIB, availableBytes: 20 * GIB }), "ok", /20 GiB of 32 GiB/],
  ["memory in use", () => memoryCheck({ totalBytes: 32 * GIB, availableBytes: 2 * GIB }), "warn", /4 GiB or more/],
  ["shared memory", () => sharedMemoryCheck({ wantedBytes: 8 * GIB, totalBytes: 32 * GIB }), "ok", /8 GiB/],
  ["too much shared memory", () => sharedMemoryCheck({ wantedBytes: 8 * GIB, totalBytes: 8 * GIB }), "warn", /half/],
  ["program", () => programCheck({ title: "Pulumi CLI", path: "/p", there: true, madeHere: false }), "ok", /official/],
  [
    "program made here",
    () => programCheck({ title: "Pulumi CLI", path: "/p", there: true, madeHere: true }),
    "ok",
    /offline/,
  ],
  ["no program", () => programCheck({ title: "Pulumi CLI", path: "/p", there: false, madeHere: false }), "fail", /\/p/],
  ["no lock", () => lockCheck("dev", [], HERE), "ok", /none/],
  ["lock of a live process", () => lockCheck("dev", [{ ...LOCK, pid: 7 }], HERE), "warn", /process 7/],
  ["lock of another machine", () => lockCheck("dev", [{ ...LOCK, hostname: "other" }], HERE), "warn", /other/],
  ["lock of a dead process", () => lockCheck("dev", [LOCK], HERE), "fail", /killed: process 8/],
  ["backend elsewhere", () => lockCheck("dev", undefined, HERE), "ok", /PULUMI_BACKEND_URL/],
  ["clean state", () => pendingCheck([]), "ok", /no interrupted/],
  ["interrupted state", () => pendingCheck(["creating tunestack-jupyter"]), "fail", /creating tunestack-jupyter/],
  ["registry", () => registryCheck({ host: "r", reachable: true, baseImage: undefined }), "ok", /answers/],
  ["no registry, base made", () => registryCheck({ host: "r", reachable: false, baseImage: "b:1" }), "warn", /b:1/],
  ["no registry", () => registryCheck({ host: "r", reachable: false, baseImage: undefined }), "warn", /does not/],
  ["hub", () => hubCheck({ reachable: true, token: false }), "ok", /no token/],
  ["no hub", () => hubCheck({ reachable: false, token: true }), "warn", /does not answer/],
  [
    "model made on the spot",
    () => modelCheck({ id: undefined, gated: false }, { ...HUB, reachable: false }),
    "ok",
    /spot/,
  ],
  ["gated model with token", () => modelCheck(GEMMA, HUB), "ok", /can be had/],
  ["gated model without token", () => modelCheck(GEMMA, { ...HUB, token: false }), "fail", /no token/],
  ["token refused", () => modelCheck(GEMMA, { ...HUB, status: 401 }), "fail", /refuses the token/],
  ["licence not accepted", () => modelCheck(GEMMA, { ...HUB, status: 403 }), "fail", /may not have it/],
  ["no such model", () => modelCheck({ id: "a/b", gated: false }, { ...HUB, status: 404 }), "fail", /no such model/],
  ["hub that cannot be asked", () => modelCheck(GEMMA, { ...HUB, reachable: false }), "warn", /cannot be asked/],
  ["nothing left over", () => orphanCheck([], []), "ok", /none/],
  ["things gone", () => orphanCheck([], ["id"]), "fail", /gone/],
  ["healthy service", () => serviceCheck("jupyter", HEALTHY), "ok", /^healthy$/],
  ["starting service", () => serviceCheck("jupyter", { ...HEALTHY, health: "starting" }), "warn", /starting: all well/],
  [
    "unhealthy service",
    () => serviceCheck("jupyter", { ...HEALTHY, health: "unhealthy", lastCheck: "no answer" }),
    "fail",
    /no answer/,
  ],
  ["ended service", () => serviceCheck("jupyter", { ...HEALTHY, health: "exited (1)" }), "fail", /^exited \(1\)$/],
  ["service gone", () => serviceCheck("jupyter", { ...HEALTHY, health: "missing" }), "fail", /gone/],
  [
    "left out by a setting",
    () => leftOutCheck({ service: "jupyter", reason: "services.jupyter.enabled is false" }),
    "ok",
    /left out/,
  ],
  [
    "left out by the machine",
    () => leftOutCheck({ service: "wandb-local", reason: "no registry" }),
    "warn",
    /no registry/,
  ],
];

describe("the doctor's checks", () => {
  it.each(CASES)("%s", (_name, check, status, said) => {
    const found = check();
    expect(found.status).toBe(status);
    expect(found.said).toMatch(said);
    if (status !== "ok") expect(found.remedy).toBeTruthy();
  });

  it("print one line each, the remedy beneath what is not well", () => {
    const text = formatChecks([ok("disk", "30 GiB free"), warn("registry", "does not answer", "check the network")]);
    const plain = stripVTControlCharacters(text);
    expect(plain).toBe("✓ disk      30 GiB free\n! registry  does not answer\n            → check the network");
  });
});

describe("ports", () => {
  const services = [{ name: "jupyter", ports: [{ container: 8888, host: 8888 }] }] as const;
  const holder = {
    name: "box",
    id: "1",
    imageId: "2",
    running: true,
    exitCode: undefined,
    run: undefined,
    specification: undefined,
    hostPorts: [8888],
  };

  it("that are free or ours are well", () => {
    const ours = { containers: [{ ...holder, owner: "dev@/clone" }], takenPorts: [] };
    expect(portChecks(services, "dev@/clone", ours).map(({ status }) => status)).toEqual(["ok"]);
    expect(portChecks(services, "dev@/clone", { containers: [], takenPorts: [] })[0]?.status).toBe("ok");
  });

  it("that another container or program holds are named with who does", () => {
    const theirs = { containers: [{ ...holder, owner: undefined }], takenPorts: [] };
    expect(portChecks(services, "dev@/clone", theirs)[0]).toMatchObject({
      status: "fail",
      said: "of jupyter is in use by the container box",
    });
    expect(portChecks(services, "dev@/clone", { containers: [], takenPorts: [8888] })[0]?.said).toContain(
      "another program",
    );
  });
});

describe("the passphrase", () => {
  const salt = encryptionSalt("right");

  it("fits what was encrypted with it", () => {
    expect(passphraseCheck({ source: "file", passphrase: "right", salt }).status).toBe("ok");
  });

  it("does not fit what was encrypted with another", () => {
    expect(passphraseCheck({ source: "file", passphrase: "wrong", salt })).toMatchObject({ status: "fail" });
  });

  it("is missed only where something was encrypted with it", () => {
    expect(passphraseCheck({ source: "file", passphrase: undefined, salt }).status).toBe("fail");
    expect(passphraseCheck({ source: "file", passphrase: undefined, salt: undefined }).status).toBe("warn");
    expect(passphraseCheck({ source: "file", passphrase: "right", salt: undefined }).status).toBe("ok");
  });

  it("fits nothing that is no salt", () => {
    expect(passphraseCheck({ source: "file", passphrase: "right", salt: "v1:AAAA" }).status).toBe("fail");
  });
});

/** As Pulumi writes it. */
function encryptionSalt(passphrase: string): string {
  const salt = Buffer.from("12345678");
  const nonce = Buffer.from("123456789012");
  const cipher = createCipheriv("aes-256-gcm", pbkdf2Sync(passphrase, salt, 1_000_000, 32, "sha256"), nonce);
  const sealed = Buffer.concat([cipher.update("pulumi", "utf8"), cipher.final(), cipher.getAuthTag()]);
  return ["v1", salt.toString("base64"), "v1", nonce.toString("base64"), sealed.toString("base64")].join(":");
}

describe("the table of settings", () => {
  const resolved = resolveSettings([
    { source: "Pulumi.dev.yaml", values: { training: { preset: "rehearsal" } } },
    {
      source: "pulumi config",
      values: { image: { pypiMirror: "https://ann:secret@mirror.example/simple" }, backup: { interval: "20m" } },
    },
  ]);
  const rows = new Map(settingRows(resolved).map((row) => [row.path, row]));

  it("tells value and source", () => {
    expect(rows.get("training.preset")).toEqual({
      path: "training.preset",
      value: "rehearsal",
      source: "Pulumi.dev.yaml",
    });
    expect(rows.get("services.jupyter.port")).toMatchObject({ value: "8888", source: "default" });
  });

  it("shows sizes and times with their unit", () => {
    expect(rows.get("training.sharedMemory")?.value).toBe("8 GiB");
    expect(rows.get("backup.interval")).toMatchObject({ value: "20 min", source: "pulumi config" });
  });

  it.each([
    ["gcp-vm", gcpInputs],
    ["kubernetes", kubernetesInputs],
    ["gke", gkeInputs],
  ] as const)("has no number of bytes or seconds without its unit for %s", (_target, inputs) => {
    const bare = settingRows(inputs({})).filter(({ path, value }) => /^\d{4,}$/.test(value) && !/port$/i.test(path));
    expect(bare).toEqual([]);
  });

  it("shows no password of an address", () => {
    expect(rows.get("image.pypiMirror")?.value).toBe("https://…@mirror.example/simple");
  });
});
