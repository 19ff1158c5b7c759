import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { trackedFiles } from "../lib/tracked.ts";

/** Put together here, so that this file is not one of those that it looks for. */
const host = (...labels: string[]) => labels.join(".");
const path = (...parts: string[]) => `/${parts.join("/")}`;

/** Registries are settings or the tools' own defaults: a lock file that names one fails behind a mirror. */
const REGISTRY_HOSTS = [
  host("pypi", "org"),
  host("pythonhosted", "org"),
  host("registry", "npmjs", "org"),
  host("proxy", "golang", "org"),
];

/** A person's or one machine's own places. */
const MACHINE_PATHS = [path("work", "main"), path("work", "shared"), path("root", ""), path("tmp", "t", "")];
/** Builds of the image run as root of their own file system, and so does what they said. */
const IN_AN_IMAGE = /(^|\/)Dockerfile$|^test\/unit\/pulumi-errors\//;

/** Private keys and tokens by their form. */
const SECRETS = [
  /-----BEGIN [A-Z ]*PRIVATE KEY-----/,
  /\bhf_[A-Za-z0-9]{30,}/,
  /\bgh[pousr]_[A-Za-z0-9]{30,}/,
  /\bAKIA[0-9A-Z]{16}\b/,
];

const TEXT =
  /(^|\/)(\.[^/]+|[^/.]+|[^/]+\.(ts|mts|mjs|cjs|json|ya?ml|md|py|toml|lock|txt|sh|c|jinja|jsonl|csv|mod|sum|go|cfg|ini))$/;

const files = trackedFiles().filter((file) => TEXT.test(file) && statSync(join(PROJECT_DIR, file)).isFile());
const read = (file: string) => readFileSync(join(PROJECT_DIR, file), "utf8");

/** `file:line` of each line that has one of the texts. */
function linesWith(file: string, content: string, forbidden: readonly (string | RegExp)[]): readonly string[] {
  return content.split("\n").flatMap((line, index) => {
    const found = forbidden.some((text) => (typeof text === "string" ? line.includes(text) : text.test(line)));
    return found ? [`${file}:${index + 1}: ${line.trim().slice(0, 120)}`] : [];
  });
}

describe("tracked files", () => {
  test("are found", () => {
    expect(files).toEqual(
      expect.arrayContaining([
        "package-lock.json",
        "README.md",
        "stacks/plan/plan.ts",
        "images/qlora/requirements.lock",
      ]),
    );
  });

  test("hold no path of the machine that they were written on", () => {
    const ours = files.filter((file) => !IN_AN_IMAGE.test(file));
    expect(ours.flatMap((file) => linesWith(file, read(file), MACHINE_PATHS.map(atStart)))).toEqual([]);
  });

  test("hold no secret", () => {
    expect(files.flatMap((file) => linesWith(file, read(file), SECRETS))).toEqual([]);
  });

  test("hold nothing that belongs to one person", () => {
    const personal = /(^|\/)(\.tunestack|node_modules|__pycache__|\.env|passphrase)(\/|$)|\.(pem|key)$/;
    expect(trackedFiles().filter((file) => personal.test(file))).toEqual([]);
  });
});

describe("lock files", () => {
  const locks = files.filter((file) => /(^|\/)(package-lock\.json|requirements[^/]*\.(lock|txt))$/.test(file));

  test("are found", () => {
    expect(locks.length).toBeGreaterThanOrEqual(5);
  });

  test.each(locks)("%s names no registry", (file) => {
    expect(linesWith(file, read(file), REGISTRY_HOSTS)).toEqual([]);
  });

  test("npm's has a hash for every package that is not of this project", () => {
    const { packages } = JSON.parse(read("package-lock.json")) as {
      packages: Readonly<Record<string, { integrity?: string; link?: boolean; resolved?: string }>>;
    };
    const without = Object.entries(packages).filter(
      ([name, { integrity, link }]) => name.startsWith("node_modules/") && link !== true && integrity === undefined,
    );
    expect(without.map(([name]) => name)).toEqual([]);
  });

  test.each(locks.filter((file) => file.startsWith("images/")))("%s pins every package with a hash", (file) => {
    const packages = read(file)
      .replaceAll(/\\\n/g, " ")
      .split("\n")
      .filter((line) => /^[A-Za-z0-9]/.test(line));
    expect(packages.length).toBeGreaterThan(0);
    for (const line of packages) expect(line).toMatch(/^[A-Za-z0-9._-]+==\S+.*--hash=sha256:[0-9a-f]{64}/);
  });
});

/** The path where it begins, and not as the end of a longer one. */
function atStart(given: string): RegExp {
  return new RegExp(`(^|[^\\w.~-])${given.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")}`);
}

describe("the search itself", () => {
  test.each([
    [`cd ${path("work", "main")}`, MACHINE_PATHS.map(atStart)],
    [`"${path("root", ".cache")}"`, MACHINE_PATHS.map(atStart)],
    [`"resolved": "https://${host("registry", "npmjs", "org")}/zod"`, REGISTRY_HOSTS],
    [`token = hf_${"a".repeat(34)}`, SECRETS],
  ])("finds %j", (line, forbidden) => {
    expect(linesWith("x", line, forbidden)).toHaveLength(1);
  });

  test.each([
    ["the file system's /rootfs", MACHINE_PATHS.map(atStart)],
    ["https://host.example/root/x", MACHINE_PATHS.map(atStart)],
    ["HF_TOKEN=hf_…", SECRETS],
  ])("leaves %j alone", (line, forbidden) => {
    expect(linesWith("x", line, forbidden)).toEqual([]);
  });
});
