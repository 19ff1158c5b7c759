import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { saidLast } from "../../scripts/lib/build.ts";
import { EXIT, UserError } from "../../scripts/lib/errors.ts";
import { explainKnown, explainPulumi } from "../../scripts/lib/pulumi-errors.ts";

/** What the Automation API's error says, as Pulumi 3.250.0 was seen to say it. */
function said(name: string): Error {
  return new Error(readFileSync(join(import.meta.dirname, "pulumi-errors", `${name}.txt`), "utf8"));
}

const KNOWN = [
  ["locked", "stack dev", /^is locked/, /npx pulumi cancel --yes --stack dev/, EXIT.stack],
  ["wrong-passphrase", "stack dev", /another passphrase/, /\.tunestack\/passphrase/, EXIT.settings],
  ["no-passphrase", "stack dev", /passphrase is not known/, /npm start/, EXIT.settings],
  ["disk-full", "disk", /^is full$/, /docker image prune/, EXIT.machine],
  ["base-image", "image", /cannot be pulled/, /npm start/, EXIT.network],
] as const;

describe("explainPulumi", () => {
  test.each(KNOWN)("%s", (name, path, reason, remedy, exitCode) => {
    const explained = explainPulumi("dev", said(name));
    expect(explained?.problems).toHaveLength(1);
    expect(explained?.problems[0]?.path).toBe(path);
    expect(explained?.problems[0]?.reason).toMatch(reason);
    expect(explained?.problems[0]?.remedy).toMatch(remedy);
    expect(explained?.exitCode).toBe(exitCode);
    expect(explained?.message).not.toMatch(/Command failed|--client|\bat .*\.ts:/);
  });

  test("who holds the lock is named", () => {
    expect(explainPulumi("dev", said("locked"))?.problems[0]?.value).toBe(
      "created by me@box (pid 123) at 2026-11-23T10:00:00Z",
    );
  });

  test("an image that cannot be pulled is named", () => {
    expect(explainPulumi("dev", said("base-image"))?.problems[0]?.value).toMatch(/^mirror\.example\/base:1/);
  });

  test("problems that our own program reported come through word for word, once", () => {
    const explained = explainPulumi("dev", said("own-problems"));
    expect(explained?.message).toBe(
      [
        "2 problems in the settings:",
        "  services.jupyter.port = 70000",
        "    is more than 65535",
        "    → choose at most 65535",
        '  training.preset = "x"',
        "    is not one of the values allowed",
        "    → use one of: rehearsal",
      ].join("\n"),
    );
    expect(explained?.exitCode).toBe(EXIT.settings);
  });

  test("problems with the engine have the machine's exit code", () => {
    const engine = new Error(said("own-problems").message.replaceAll("in the settings", "in the Docker engine"));
    expect(explainPulumi("dev", engine)?.exitCode).toBe(EXIT.machine);
  });

  test("what is not known is shown by its error lines", () => {
    const explained = explainPulumi("dev", said("other"));
    expect(explained?.problems[0]?.reason).toContain("Unable to start container: driver failed programming");
    expect(explained?.exitCode).toBe(EXIT.stack);
  });

  test("what is none of Pulumi's is left alone", () => {
    expect(explainPulumi("dev", new TypeError("a defect"))).toBeUndefined();
    expect(explainPulumi("dev", "text")).toBeUndefined();
  });
});

describe("a build's output", () => {
  test("a base image that cannot be pulled is named, with the reason and what to do", () => {
    const said = [
      '#3 ERROR: failed to do request: Head "https://registry.example/v2/nvidia/cuda/manifests/99": dial tcp: lookup registry.example: no such host',
      "------",
      " > [internal] load metadata for docker.io/nvidia/cuda:99:",
      "------",
      'ERROR: failed to build: failed to solve: failed to do request: Head "https://registry.example/v2/nvidia/cuda/manifests/99": dial tcp: lookup registry.example: no such host',
    ].join("\n");
    expect(explainKnown("dev", said)?.message).toBe(
      [
        "1 problem in the stack:",
        "  base image = docker.io/nvidia/cuda:99",
        "    cannot be pulled: dial tcp: lookup registry.example: no such host",
        "    → check image.base and your network; where the registry cannot be reached, leave image.base at auto: npm start makes a base image without it",
      ].join("\n"),
    );
  });

  test.each([
    ["uv-without-network", "https://packages.example.org/simple/nvidia-ml-py/", "does not answer: dns error"],
    [
      "apt-without-network",
      "http://debian.example.org/debian/dists/bookworm/InRelease",
      "does not answer: Temporary failure resolving",
    ],
    [
      "pip-without-network",
      "/simple/uv/",
      "the package index does not answer: [Errno -3] Temporary failure in name resolution",
    ],
  ])("a network that is lost on the way is told as that: %s", (name, value, reason) => {
    const explained = explainKnown("dev", said(name).message);
    expect(explained?.problems).toEqual([
      { path: "network", value, reason, remedy: expect.stringContaining("image.pypiMirror") },
    ]);
    expect(explained?.exitCode).toBe(EXIT.network);
  });

  test("a disk that is full is told as that, in the words of whatever noticed it", () => {
    const explained = explainKnown("dev", said("disk-full-in-build").message);
    expect(explained?.problems[0]?.path).toBe("disk");
    expect(explained?.exitCode).toBe(EXIT.machine);
  });

  test("of a step that failed its own last words are shown, without its command", () => {
    expect(saidLast(said("uv-without-a-package").message)).toMatch(/^failed:\n/);
    const shown = saidLast(said("disk-full-in-build").message);
    expect(shown).toMatch(/^failed in \[deps 1\/1\]:\n {4}6\.162 error: Failed to download/);
    expect(shown).toContain("No space left on device");
    expect(shown).not.toContain("UV_LINK_MODE");
    expect(saidLast("x".repeat(500))).toHaveLength("failed:\n    ".length + 201);
  });

  test("what was explained is not explained again, though it quotes an exit code", () => {
    const explained = new UserError(
      [{ path: "image stage training", reason: "failed:\n    exit code: 1\n\n    and why", remedy: "mend it" }],
      EXIT.stack,
      "image",
    );
    expect(explainPulumi("dev", explained)).toBe(explained);
  });

  test("a package that the index does not have is no lost network", () => {
    expect(explainKnown("dev", said("uv-without-a-package").message)).toBeUndefined();
  });

  test("what is not known stays unexplained", () => {
    expect(explainKnown("dev", "gcc: fatal error: no input files")).toBeUndefined();
  });
});
