import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { setPersonal } from "../../scripts/lib/personal.ts";
import { ensureSecrets, secretFile, writeSecret } from "../../scripts/lib/setup/secrets.ts";
import { loadStack } from "../../stacks/settings/load.ts";
import { getPersonal } from "../lib/personal-settings.ts";

const folder = vi.hoisted(() => {
  const base = `${process.env.TMPDIR ?? "/tmp"}/tunestack-personal-${process.pid}`;
  return { project: base, personal: `${base}/.tunestack`, passphrase: `${base}/.tunestack/passphrase` };
});

vi.mock(import("../../scripts/lib/project.ts"), async (original) => ({
  ...(await original()),
  PROJECT_DIR: folder.project,
  PERSONAL_DIR: folder.personal,
  PASSPHRASE_FILE: folder.passphrase,
}));

const personalFile = join(folder.personal, "stacks", "Pulumi.dev.yaml");

beforeEach(() => mkdirSync(folder.project, { recursive: true }));
afterEach(() => rmSync(folder.project, { recursive: true, force: true }));

function mode(path: string): string {
  return (statSync(path).mode & 0o777).toString(8);
}

describe("personal settings", () => {
  test("come back as they were set, and are what a stack is loaded from", () => {
    const training = { preset: "rehearsal", set: { max_steps: "5" }, model: null, commit: "1234567" };
    setPersonal("dev", { training, profiles: ["dev"] });
    expect(getPersonal("dev", "training")).toEqual(training);
    expect(getPersonal("dev", "profiles")).toEqual(["dev"]);
    const { settings, sources } = loadStack({ projectDir: folder.project, stack: "dev", environment: {} });
    expect(settings.training).toMatchObject({ preset: "rehearsal", set: { max_steps: "5" }, commit: "1234567" });
    expect(sources.get("training.preset")).toBe("pulumi config");
  });

  test("of other stacks and other keys are left as they are, Pulumi's salt and comments too", () => {
    mkdirSync(join(folder.personal, "stacks"), { recursive: true });
    writeFileSync(
      personalFile,
      "encryptionsalt: v1:abc\nconfig:\n  # mine\n  tunestack:accelerator: cpu\n  tunestack:profiles: [dev]\n",
    );
    setPersonal("prod", { accelerator: "cuda" });
    setPersonal("dev", { profiles: undefined, training: { preset: "rehearsal" } });
    const text = readFileSync(personalFile, "utf8");
    expect(text).toContain("encryptionsalt: v1:abc");
    expect(text).toContain("# mine");
    expect(getPersonal("dev", "accelerator")).toBe("cpu");
    expect(getPersonal("dev", "profiles")).toBeUndefined();
    expect(getPersonal("prod", "accelerator")).toBe("cuda");
  });

  test.each(["", "config:\n", "encryptionsalt: v1:abc\n"])("can be set in a file that has none: %j", (content) => {
    mkdirSync(join(folder.personal, "stacks"), { recursive: true });
    writeFileSync(personalFile, content);
    setPersonal("dev", { accelerator: "cpu" });
    expect(getPersonal("dev", "accelerator")).toBe("cpu");
  });

  test("stand in a file for their owner alone, written whole", () => {
    setPersonal("dev", { accelerator: "cpu" });
    expect(mode(personalFile)).toBe("600");
    expect(readdirSync(join(folder.personal, "stacks"))).toEqual(["Pulumi.dev.yaml"]);
    expect(getPersonal("elsewhere", "accelerator")).toBeUndefined();
  });
});

describe("secrets", () => {
  test("are made once: what exists is never touched", () => {
    expect(ensureSecrets("dev")).toBe(3);
    const files = [folder.passphrase, secretFile("dev", "jupyter-token"), secretFile("dev", "restic-password")];
    const before = files.map((file) => readFileSync(file, "utf8"));
    expect(new Set(before).size).toBe(3);
    for (const secret of before) expect(secret.trim().length).toBeGreaterThanOrEqual(32);
    expect(ensureSecrets("dev")).toBe(0);
    expect(files.map((file) => readFileSync(file, "utf8"))).toEqual(before);
    expect(existsSync(secretFile("dev", "hf-token"))).toBe(false);
  });

  test("another stack has its own, under the same passphrase", () => {
    ensureSecrets("dev");
    expect(ensureSecrets("prod")).toBe(2);
    const token = (stack: string) => readFileSync(secretFile(stack, "jupyter-token"), "utf8");
    expect(token("prod")).not.toBe(token("dev"));
  });

  test("nobody else gets past their folder, which is closed again where it was open", () => {
    mkdirSync(folder.personal, { recursive: true });
    chmodSync(folder.personal, 0o755);
    ensureSecrets("dev");
    expect(mode(folder.personal)).toBe("700");
    expect(mode(folder.passphrase)).toBe("600");
    expect(mode(join(folder.personal, "secrets", "dev"))).toBe("700");
  });

  test("can be read by the containers' user, and by nobody else where they could be given to it", () => {
    writeSecret("dev", "hf-token", "hf_x");
    const file = secretFile("dev", "hf-token");
    expect(readFileSync(file, "utf8")).toBe("hf_x\n");
    const { uid, gid } = statSync(file);
    if (process.getuid?.() === 0) expect([mode(file), uid, gid]).toEqual(["600", 1000, 1000]);
    else expect(mode(file)).toBe(uid === 1000 ? "600" : "444");
    writeSecret("dev", "hf-token", "hf_y");
    expect(readFileSync(file, "utf8")).toBe("hf_y\n");
  });
});
