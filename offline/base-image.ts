import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import Docker from "dockerode";
import {
  type BaseImagePlan,
  bootstrapArguments,
  debianSources,
  extraCertificates,
  imageChanges,
  planBaseImage,
} from "./base-image-plan.ts";
import type { Report } from "./build.ts";
import { OfflineError } from "./errors.ts";
import { lastLines, run, which } from "./process.ts";

const readOr = (path: string) => readFile(path, "utf8").catch(() => "");

async function readFolder(
  folder: string,
  endings: readonly string[],
): Promise<readonly { name: string; text: string }[]> {
  const names = await readdir(folder).catch(() => []);
  const wanted = names.filter((name) => endings.some((ending) => name.endsWith(ending))).sort();
  return Promise.all(wanted.map(async (name) => ({ name, text: await readOr(join(folder, name)) })));
}

/** apt's proxy, told in its own words; empty where there is none. */
async function aptProxies(): Promise<readonly string[]> {
  if ((await which("apt-config")) === undefined) return [];
  const dump = await run("apt-config", [
    "dump",
    "--format",
    "%F %v%n",
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
  ]);
  return dump.output.split("\n").flatMap((line) => {
    const match = /^(Acquire::https?::Proxy) (\S+)$/.exec(line.trim());
    return match === null ? [] : [`${match[1]} "${match[2]}"`];
  });
}

/** Reads what the image depends on from this machine: its Debian mirror, its extra certificates, apt's proxy. */
export async function readBaseImagePlan(): Promise<BaseImagePlan> {
  const lists = [{ name: "sources.list", text: await readOr("/etc/apt/sources.list") }];
  const [parts, packaged, aptOptions, trusted] = await Promise.all([
    readFolder("/etc/apt/sources.list.d", [".list", ".sources"]),
    readFolder("/usr/share/ca-certificates/mozilla", [".crt"]),
    aptProxies(),
    readOr(process.env.SSL_CERT_FILE ?? "/etc/ssl/certs/ca-certificates.crt"),
  ]);
  const certificates = extraCertificates(trusted, packaged.map(({ text }) => text).join("\n"));
  return planBaseImage({ sources: debianSources([...lists, ...parts]), certificates, aptOptions });
}

async function ensureMmdebstrap(report: Report): Promise<void> {
  if (await which("mmdebstrap")) return;
  const what = "the base image cannot be made: mmdebstrap is missing";
  const remedy = "sudo apt-get update && sudo apt-get install -y mmdebstrap, then run this again";
  if (process.getuid?.() !== 0 || (await which("apt-get")) === undefined) {
    throw new OfflineError({ cause: "rights", what, why: "only root on Debian or Ubuntu can install it", remedy });
  }
  report("installing mmdebstrap");
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const install = () =>
    run("apt-get", ["install", "-y", "--no-install-recommends", "mmdebstrap", "debian-archive-keyring"], { env });
  let installed = await install();
  if (installed.code !== 0) {
    await run("apt-get", ["update"], { env });
    installed = await install();
  }
  if (installed.code !== 0) {
    throw new OfflineError({ cause: "network", what, why: lastLines(installed.output, 6), remedy });
  }
}

function bootstrapFailure(output: string, log: string): OfflineError {
  const what = "the base image could not be made by mmdebstrap";
  const why = lastLines(output, 8);
  if (/no space left/i.test(output)) {
    return new OfflineError({
      cause: "disk",
      what,
      why,
      remedy: "free some disk space (1 GB), then run this again",
      log,
    });
  }
  if (/operation not permitted|permission denied|newuidmap/i.test(output)) {
    return new OfflineError({ cause: "rights", what, why, remedy: "run this once as root (sudo npm start)", log });
  }
  return new OfflineError({
    cause: "network",
    what,
    why,
    remedy: "check that `apt-get update` works here, then run this again",
    log,
  });
}

async function bootstrap(plan: BaseImagePlan, folder: string, cacheDir: string, report: Report): Promise<string> {
  await ensureMmdebstrap(report);
  await Promise.all(
    plan.certificates.map((pem, index) => writeFile(join(folder, `tunestack-${index}.crt`), `${pem}\n`)),
  );
  const archive = join(folder, "base.tar");
  const log = join(cacheDir, "base-image.log");
  report("making the base image from Debian packages (half a minute)");
  const made = await run("mmdebstrap", bootstrapArguments(plan, folder, archive), { log });
  if (made.code !== 0) throw bootstrapFailure(made.output, log);
  return archive;
}

async function importArchive(docker: Docker, plan: BaseImagePlan, archive: string): Promise<void> {
  const [repo, tag] = plan.tag.split(":");
  const changes = imageChanges(plan);
  const stream = await docker.importImage(createReadStream(archive), { repo, tag, changes });
  await new Promise<void>((resolve, reject) => {
    docker.modem.followProgress(stream, (error) => (error === null ? resolve() : reject(error)));
  });
}

export interface BaseImage {
  readonly tag: string;
  readonly bytes: number;
  readonly made: boolean;
}

async function inspect(docker: Docker, tag: string): Promise<number | undefined> {
  try {
    return (await docker.getImage(tag).inspect()).Size;
  } catch (error) {
    if ((error as { statusCode?: number }).statusCode === 404) return undefined;
    throw new OfflineError({
      cause: "engine",
      what: "the base image cannot be looked up: the Docker engine does not answer",
      why: error instanceof Error ? error.message : String(error),
      remedy: "check that `docker version` shows a server, and that you may talk to it",
    });
  }
}

/** Makes `tunestack/base:bookworm-<recipe>` unless the engine has it. */
export async function makeBaseImage(cacheDir: string, report: Report, docker = new Docker()): Promise<BaseImage> {
  const plan = await readBaseImagePlan();
  const present = await inspect(docker, plan.tag);
  if (present !== undefined) return { tag: plan.tag, bytes: present, made: false };
  await mkdir(cacheDir, { recursive: true });
  const folder = await mkdtemp(join(cacheDir, `.making-${process.pid}-base-`));
  try {
    const archive = await bootstrap(plan, folder, cacheDir, report);
    report(`importing the base image (${Math.round((await stat(archive)).size / 1e6)} MB)`);
    await importArchive(docker, plan, archive);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return { tag: plan.tag, bytes: (await inspect(docker, plan.tag)) ?? 0, made: true };
}
