import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { ensureCompose } from "../../offline/setup.ts";
import { buildCommand } from "../../scripts/lib/build.ts";
import { CACHE_DIR, DEFAULT_STACK, PROJECT_DIR, PULUMI_HOME, pulumiEnvironment } from "../../scripts/lib/project.ts";
import { readInputs } from "../../scripts/lib/stack.ts";
import { planImage } from "../../stacks/plan/image.ts";
import { chooseAccelerator } from "../../stacks/plan/plan.ts";

const IMAGE = "tunestack-test/vm";
const STATE = "/cloud/state";
const MACHINE_DIR = join(PROJECT_DIR, "test", "vm", "machine");
/** Hosts that the fake cloud answers for; `prepare.sh` makes its certificate for the same ones. */
export const HOSTS = [
  "metadata.google.internal",
  "storage.googleapis.com",
  "secretmanager.googleapis.com",
  "compute.googleapis.com",
  "us-central1-docker.pkg.dev",
  "download.docker.com",
  "nvidia.github.io",
  "archive.ubuntu.com",
];

/** Runs `docker` as the stacks do. Rejects with what it said. */
export async function docker(...args: readonly string[]): Promise<string> {
  const env = { ...process.env, ...pulumiEnvironment(process.env) };
  const { stdout } = await promisify(execFile)("docker", [...args], { env, maxBuffer: 64 * 2 ** 20 });
  return stdout;
}

function testImage() {
  const inputs = readInputs(DEFAULT_STACK);
  return planImage(inputs, chooseAccelerator(inputs));
}

/** Builds a stage of the project's image, mostly from the cache; gives its tag. */
export async function buildStage(stage: string): Promise<string> {
  const tag = `tunestack-test/vm-${stage}:latest`;
  await docker(...buildCommand(testImage(), stage, ["--load", "--tag", tag]));
  return tag;
}

/** Builds the machine of the tests: Debian or Ubuntu as the project's image, with systemd and an engine. */
export async function buildMachine(): Promise<string> {
  const build = ["buildx", "build", "--builder", "default", "--load", "--tag", IMAGE];
  await docker(...build, "--build-arg", `BASE=${testImage().base}`, MACHINE_DIR);
  return IMAGE;
}

export async function composeProgram(): Promise<string> {
  const { path } = await ensureCompose({ pulumiHome: PULUMI_HOME, cacheDir: CACHE_DIR, report: () => undefined });
  return path;
}

/** What systemd, an engine and a disk take: no more of the machine outside than that. */
const RIGHTS = [
  ...["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"].flatMap((name) => ["--cap-add", name]),
  ...["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"],
  ...["--device-cgroup-rule", "b 7:* rmw", "--device-cgroup-rule", "c 10:237 rmw"],
];

/** Why this engine can have no machine in a container; undefined where it can. */
export async function whyNoMachine(): Promise<string | undefined> {
  const probe =
    "[[ -e /dev/loop-control ]] || mknod /dev/loop-control c 10 237; losetup --find && mount -t tmpfs none /mnt";
  try {
    await docker("run", "--rm", ...RIGHTS, "--entrypoint", "bash", IMAGE, "-c", probe);
    return undefined;
  } catch (error) {
    const said = (error instanceof Error ? error.message : String(error)).trim().split("\n").at(-1);
    return `containers of this engine get no disk of their own (${said}); with the right to mount, and the kernel's loop devices (modprobe loop), the boot script is run`;
  }
}

/** A machine in a container, whose PID 1 is systemd; `docker stop` and `start` are its shutdown and boot. */
export class Machine {
  readonly name: string;
  readonly #folder = mkdtempSync(join(tmpdir(), "tunestack-vm-"));

  constructor(name: string) {
    this.name = name;
  }

  /** Without a startup script yet; the given images are on its engine. */
  async create(images: readonly string[]): Promise<void> {
    await this.remove();
    await docker(
      ...["run", "--detach", "--tty", "--name", this.name, "--hostname", "tunestack-prod-x1"],
      ...RIGHTS,
      ...["--cgroupns", "host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup"],
      ...["--tmpfs", "/run", "--tmpfs", "/tmp", "--volume", "/var/lib/docker"],
      ...["--volume", `${await composeProgram()}:/cloud/docker-compose:ro`],
      ...["--volume", `${join(PROJECT_DIR, "test/vm/fake_cloud.py")}:/cloud/fake_cloud.py:ro`],
      ...HOSTS.flatMap((host) => ["--add-host", `${host}:127.0.0.1`]),
      IMAGE,
    );
    await this.run("timeout 60 bash -c 'until systemctl is-active --quiet multi-user.target; do sleep 0.2; done'");
    await this.#load(images);
  }

  /** Also the image in which the GPU is proved: what the toolkit puts into a container is in this one already. */
  async #load(images: readonly string[]): Promise<void> {
    await this.run("systemctl start docker.service");
    const archive = join(this.#folder, "images.tar");
    await docker("save", "--output", archive, ...images);
    await this.copy(archive, "/cloud/images.tar");
    await this.run(`docker load --quiet --input /cloud/images.tar && rm /cloud/images.tar
      mkdir -p /cloud/proof/usr/bin && cd /cloud/proof && cp --parents -a /bin /lib /lib64 /usr/bin/dash /usr/bin/sh . &&
      cp -L --parents /usr/lib/x86_64-linux-gnu/libc.so.6 /usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 . &&
      cp -a --parents /usr/lib64 . && printf '#!/bin/sh\\necho "GPU 0: NVIDIA L4"\\n' > usr/bin/nvidia-smi &&
      chmod 0755 usr/bin/nvidia-smi && tar -c . | docker import - mirror.gcr.io/library/ubuntu:24.04
      systemctl stop docker.service docker.socket`);
    rmSync(archive);
  }

  /** Runs a line of shell on the machine. */
  async run(line: string): Promise<string> {
    return await docker("exec", this.name, "bash", "-c", line);
  }

  async copy(file: string, path: string): Promise<void> {
    await docker("cp", file, `${this.name}:${path}`);
  }

  /** Writes a file of the fake cloud. */
  async give(path: string, content: string): Promise<void> {
    const file = join(this.#folder, "given");
    writeFileSync(file, content);
    await this.run(`mkdir -p "$(dirname ${STATE}/${path})"`);
    await this.copy(file, `${STATE}/${path}`);
  }

  async takeAway(path: string): Promise<void> {
    await this.run(`rm -f ${STATE}/${path}`);
  }

  async metadata(values: Readonly<Record<string, string>>): Promise<void> {
    for (const [path, value] of Object.entries(values)) await this.give(`metadata/${path}`, value);
  }

  /** Runs the startup script as the guest agent does; false where it failed. */
  async startUp(): Promise<boolean> {
    return await this.run("systemctl restart startup.service").then(
      () => true,
      () => false,
    );
  }

  /** The status object of the bucket. */
  async status(): Promise<{ readonly stage: string; readonly message: string; readonly zone: string }> {
    return JSON.parse(await this.run(`cat ${STATE}/bucket/status/vm.json`));
  }

  async requests(): Promise<string> {
    return await this.run(`cat ${STATE}/requests`);
  }

  /** What the serial console showed. */
  async console(): Promise<string> {
    return await docker("logs", this.name);
  }

  async remove(): Promise<void> {
    await this.run(`touch ${STATE}/detach`).catch(() => undefined);
    // Its disk is freed when it is unmounted in good order.
    await docker("stop", "--time", "30", this.name).catch(() => undefined);
    await docker("rm", "--force", "--volumes", this.name).catch(() => undefined);
  }

  async dispose(): Promise<void> {
    await this.remove();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
