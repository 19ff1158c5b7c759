import { describe, expect, test } from "vitest";
import { type EngineFacts, engineSteps, installCommands } from "../../scripts/lib/setup/engine.ts";
import { driverVersion, toolkitCommands } from "../../scripts/lib/setup/gpu.ts";
import { distributionOf, mayInstall } from "../../scripts/lib/setup/system.ts";

const DEBIAN_ROOT: EngineFacts = {
  system: { root: true, distribution: "debian", systemd: false },
  installed: false,
  failure: "ENOENT",
  named: false,
};

function facts(changes: Partial<EngineFacts>, system: Partial<EngineFacts["system"]> = {}): EngineFacts {
  return { ...DEBIAN_ROOT, ...changes, system: { ...DEBIAN_ROOT.system, ...system } };
}

describe("engineSteps", () => {
  test.each([
    ["an engine that answers", facts({ failure: undefined }), []],
    ["root on Debian without one", facts({}), ["install", "start-directly"]],
    ["the same with systemd", facts({}, { systemd: true }), ["install", "start-service"]],
    [
      "root on Ubuntu, installed and not running",
      facts({ installed: true, failure: "ECONNREFUSED" }, { distribution: "ubuntu", systemd: true }),
      ["start-service"],
    ],
    ["installed in a container without systemd", facts({ installed: true }), ["start-directly"]],
    [
      "another distribution, installed",
      facts({ installed: true }, { distribution: "fedora", systemd: true }),
      ["start-service"],
    ],
    ["another distribution without one", facts({}, { distribution: "fedora" }), ["stop"]],
    ["not root", facts({}, { root: false }), ["stop"]],
    ["not root, installed", facts({ installed: true, failure: "ECONNREFUSED" }, { root: false }), ["stop"]],
    ["no right to its socket", facts({ installed: true, failure: "EACCES" }), ["stop"]],
    ["an engine that was named", facts({ named: true, failure: "ECONNREFUSED", installed: true }), ["stop"]],
  ] as const)("%s", (_title, given, steps) => {
    expect(engineSteps(given)).toEqual(steps);
  });
});

test.each([
  ["debian", /^sudo apt-get update && sudo apt-get install docker\.io/],
  ["ubuntu", /^sudo apt-get update && sudo apt-get install docker\.io/],
  ["fedora", /^sudo dnf install moby-engine/],
  ["arch", /^sudo pacman -S docker/],
  ["gentoo", /docs\.docker\.com\/engine\/install/],
])("what is typed on %s", (distribution, commands) => {
  expect(installCommands(distribution)).toMatch(commands);
  expect(installCommands(distribution)).toMatch(/usermod -aG docker \$USER.*npm start$/);
});

describe("distributionOf", () => {
  test.each([
    ['PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n', "debian"],
    ["ID=ubuntu\nID_LIKE=debian\n", "ubuntu"],
    ['ID=linuxmint\nID_LIKE="ubuntu debian"\n', "ubuntu"],
    ["ID=raspbian\nID_LIKE=debian\n", "debian"],
    ["NAME=Fedora\nID=fedora\n", "fedora"],
    ["ID='arch'\n", "arch"],
    ['ID="rhel"\nID_LIKE="fedora"\n', "rhel"],
    ["", ""],
  ])("%j is %j", (release, distribution) => {
    expect(distributionOf(release)).toBe(distribution);
  });

  test("only root on Debian and Ubuntu may install", () => {
    const may = (root: boolean, distribution: string) => mayInstall({ root, distribution, systemd: true });
    expect([may(true, "debian"), may(true, "ubuntu")]).toEqual([true, true]);
    expect([may(false, "debian"), may(true, "fedora"), may(true, "")]).toEqual([false, false, false]);
  });
});

describe("the NVIDIA driver", () => {
  test.each([
    [
      "NVRM version: NVIDIA UNIX x86_64 Kernel Module  560.35.03  Fri Aug 16 21:39:15 UTC 2024\nGCC version: …",
      "560.35.03",
    ],
    ["NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (root@x)", "570.124.06"],
    ["NVRM version: something else", undefined],
    ["", undefined],
  ])("%j is version %s", (text, version) => {
    expect(driverVersion(text)).toBe(version);
  });

  test("the toolkit's commands name the key that the source is signed with", () => {
    const commands = toolkitCommands().join("\n");
    const keyring = /tee (\S+) >/.exec(commands)?.[1];
    expect(keyring).toBeDefined();
    expect(commands).toContain(`signed-by=${keyring}`);
    expect(commands).toContain("sudo nvidia-ctk runtime configure --runtime=docker");
  });
});
