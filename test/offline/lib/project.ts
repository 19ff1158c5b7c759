import { cp, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { createServer } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type CommandResult, run } from "../../../offline/process.ts";
import { versions } from "../../../offline/recipes.ts";
import {
  cliFolder,
  ensureBaseImage,
  ensureDockerProvider,
  ensureLanguageHost,
  ensurePulumiCli,
  type SetupOptions,
} from "../../../offline/setup.ts";

const sources = {
  project: fileURLToPath(new URL("../project", import.meta.url)),
  "image-project": fileURLToPath(new URL("../image-project", import.meta.url)),
};
const modules = fileURLToPath(new URL("../../../node_modules", import.meta.url));

/** No official host answers here, so that what is made here is what gets tested. */
export const closed = {
  addresses: {
    pulumi: "http://127.0.0.1:9/",
    "docker-plugin": "http://127.0.0.1:9/",
    "gcp-plugin": "http://127.0.0.1:9/",
    "docker-build-plugin": "http://127.0.0.1:9/",
  },
};

/** A home with the CLI, the language host and the Docker provider as they are made without the official hosts. */
export async function standInHome(folder: string): Promise<{ home: string; image: string }> {
  const options: SetupOptions = {
    pulumiHome: folder,
    cacheDir: join(homedir(), ".cache", "tunestack"),
    report: () => {},
    reachable: closed,
  };
  await ensurePulumiCli(options);
  await ensureLanguageHost(options);
  await ensureDockerProvider(options);
  return { home: folder, image: (await ensureBaseImage(options)).tag };
}

/** The same home with another Docker provider in it. */
export async function homeWith(standIn: string, folder: string, provider: string): Promise<string> {
  await mkdir(join(folder, "plugins", `resource-docker-v${versions.dockerPlugin}`), { recursive: true });
  await symlink(join(standIn, "versions"), join(folder, "versions"));
  await symlink(
    provider,
    join(folder, "plugins", `resource-docker-v${versions.dockerPlugin}`, "pulumi-resource-docker"),
  );
  return folder;
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() =>
        typeof address === "object" && address ? resolve(address.port) : reject(new Error("no port")),
      );
    });
  });
}

/** A copy of the test's Pulumi project in a folder of its own, with its own state. */
export class Project {
  readonly folder: string;
  /** Added to the environment of pulumi. */
  environment: NodeJS.ProcessEnv = {};
  private readonly prefix: string;

  private constructor(folder: string, prefix: string) {
    this.folder = folder;
    this.prefix = prefix;
  }

  static async create(
    home: string,
    prefix: string,
    settings: Readonly<Record<string, string>>,
    source: keyof typeof sources = "project",
  ): Promise<Project> {
    const folder = await mkdtemp(join(tmpdir(), "tunestack-project-"));
    await cp(sources[source], folder, { recursive: true });
    await symlink(modules, join(folder, "node_modules"));
    await mkdir(join(folder, "state"));
    const project = new Project(folder, prefix);
    await project.must(home, "stack", "init", "dev");
    await project.set(home, { prefix, ...settings });
    return project;
  }

  async set(home: string, settings: Readonly<Record<string, string>>): Promise<void> {
    const pairs = Object.entries(settings).flatMap(([name, value]) => ["--plaintext", `${name}=${value}`]);
    await this.must(home, "config", "set-all", "--stack", "dev", ...pairs);
  }

  async pulumi(home: string, ...words: readonly string[]): Promise<CommandResult> {
    const program = join(cliFolder(home), "pulumi");
    return run(program, [...words, "--non-interactive"], {
      cwd: this.folder,
      env: {
        ...process.env,
        PULUMI_HOME: home,
        PULUMI_BACKEND_URL: `file://${join(this.folder, "state")}`,
        PULUMI_CONFIG_PASSPHRASE: "test",
        PULUMI_SKIP_UPDATE_CHECK: "true",
        PULUMI_STACK: "dev",
        PATH: `${cliFolder(home)}:${process.env.PATH ?? ""}`,
        ...this.environment,
      },
    });
  }

  /** Runs pulumi and gives its output; fails the test with that output when pulumi fails. */
  async must(home: string, ...words: readonly string[]): Promise<string> {
    const { code, output } = await this.pulumi(home, ...words);
    if (code !== 0) throw new Error(`pulumi ${words.join(" ")} ended with ${code}:\n${output}`);
    return output;
  }

  /** Runs pulumi, which must fail, and gives its output. */
  async mustFail(home: string, ...words: readonly string[]): Promise<string> {
    const { code, output } = await this.pulumi(home, ...words);
    if (code === 0) throw new Error(`pulumi ${words.join(" ")} was to fail, and said:\n${output}`);
    return output;
  }

  up(home: string): Promise<string> {
    return this.must(home, "up", "--yes", "--skip-preview");
  }

  /** What the stack made is removed, the volume that it retains included. */
  async dispose(home: string): Promise<void> {
    await this.pulumi(home, "cancel", "--yes");
    await this.pulumi(home, "destroy", "--yes", "--skip-preview");
    await run("docker", ["rm", "--force", `${this.prefix}-server`, `${this.prefix}-job`]);
    await run("docker", ["network", "rm", `${this.prefix}-network`]);
    await run("docker", ["volume", "rm", "--force", `${this.prefix}-data`]);
    await rm(this.folder, { recursive: true, force: true });
  }
}

export async function docker(...words: readonly string[]): Promise<string> {
  const { code, output } = await run("docker", words);
  if (code !== 0) throw new Error(`docker ${words.join(" ")}: ${output}`);
  return output;
}

export async function inspect(name: string): Promise<Record<string, unknown>> {
  const [found] = JSON.parse(await docker("inspect", name)) as readonly Record<string, unknown>[];
  if (found === undefined) throw new Error(`${name} is not there`);
  return found;
}
