import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import languageService from "@pulumi/pulumi/proto/language_grpc_pb.js";
import type { InstallDependenciesResponse, RunResponse } from "@pulumi/pulumi/proto/language_pb.js";
import language from "@pulumi/pulumi/proto/language_pb.js";
import empty from "google-protobuf/google/protobuf/empty_pb.js";
import struct from "google-protobuf/google/protobuf/struct_pb.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { versions } from "../../offline/recipes.ts";
import { placeStandIn } from "../../offline/stand-ins.ts";
import { Plugin } from "./lib/plugin.ts";

let folder: string;
let host: string;
let provider: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tunestack-plugins-"));
  host = join(folder, "bin", "pulumi-language-nodejs");
  provider = join(folder, "bin", "pulumi-resource-docker");
  await placeStandIn("language-host", join(folder, "cache"), host);
  await placeStandIn("docker-provider", join(folder, "cache"), provider);
});

afterAll(() => rm(folder, { recursive: true, force: true }));

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.stdout?.once("data", (chunk: Buffer) => resolve(chunk.toString("utf8").trim()));
    child.once("exit", (code) => reject(new Error(`ended with ${code} before it said its port`)));
  });
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 8000;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`${what}: not within 8 seconds`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Whether a process is running; one that has ended and waits for its parent to notice is not. */
async function isRunning(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "0 (gone) Z");
  return !/\) [ZX]/.test(status);
}

describe("a plugin that stands in", () => {
  it("tells its version and does nothing else when asked for it", async () => {
    const child = spawn(host, ["--version"], { stdio: ["ignore", "pipe", "inherit"] });
    expect(await firstLine(child)).toBe(versions.pulumi);
  });

  it("ends when the engine asks it to, and when the engine is killed", async () => {
    const asked = spawn(provider, ["127.0.0.1:9"], { stdio: ["ignore", "pipe", "inherit"] });
    await firstLine(asked);
    asked.kill("SIGTERM");
    await until("the plugin ends", () => asked.exitCode !== null);

    // A shell in the engine's place: it tells the plugin's process id and waits.
    const script = `"${provider}" 127.0.0.1:9 & echo "$!"; wait`;
    const engine = spawn("sh", ["-c", script], { stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    engine.stdout.on("data", (chunk: Buffer) => {
      said += chunk.toString("utf8");
    });
    await until("the plugin says its port", () => said.split("\n").length > 2);
    const pid = Number(said.split("\n")[0]);
    engine.kill("SIGKILL");
    await until("the plugin follows its engine", async () => !(await isRunning(pid)));
  });
});

describe("the Docker provider's service", () => {
  it("checks without an engine, and says what to do when there is none to create on", async () => {
    const plugin = await Plugin.start(provider, { host: `unix://${join(folder, "nobody.sock")}` });
    try {
      const urn = "urn:pulumi:dev::project::docker:index/volume:Volume::v";
      const { inputs, problems } = await plugin.check(urn, { name: "v" });
      expect(problems).toEqual([]);
      await expect(plugin.create(urn, inputs)).rejects.toThrow(
        /Unable to create volume: the Docker engine cannot be reached .*start it/,
      );
      expect((await plugin.create(urn, inputs, true)).state).toMatchObject({ name: "v" });
      const service = "urn:pulumi:dev::project::docker:index/service:Service::s";
      await expect(plugin.check(service, {})).rejects.toThrow("docker:index/service:Service");
    } finally {
      await plugin.stop();
    }
  });
});

/** A stand-in for Pulumi's runner: it tells what it was given and ends as the program's folder says. */
const fakeRunner = `
console.log(JSON.stringify({ words: process.argv.slice(2), config: process.env.PULUMI_CONFIG,
  typescript: process.env.PULUMI_NODEJS_TYPESCRIPT ?? "unset", flags: process.execArgv }));
const how = require("node:fs").readFileSync(process.argv[process.argv.indexOf("--pwd") + 1] + "/how", "utf8");
if (how === "hang") { console.error("pid " + process.pid); setInterval(() => {}, 1000); } else process.exitCode = Number(how);
`;

describe("the language host's service", () => {
  let child: ChildProcess;
  let client: InstanceType<typeof languageService.LanguageRuntimeClient>;
  let output = "";

  beforeAll(async () => {
    child = spawn(host, ["127.0.0.1:9"], { stdio: ["ignore", "pipe", "pipe"] });
    const port = await firstLine(child);
    child.stdout?.on("data", (chunk: Buffer) => {
      output += chunk.toString("utf8");
    });
    child.stderr?.on("data", (chunk: Buffer) => {
      output += chunk.toString("utf8");
    });
    client = new languageService.LanguageRuntimeClient(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  });

  afterAll(() => {
    client.close();
    child.kill();
  });

  async function program(how: string): Promise<string> {
    const path = await mkdtemp(join(folder, "program-"));
    await mkdir(join(path, "node_modules/@pulumi/pulumi/cmd/run"), { recursive: true });
    await writeFile(join(path, "node_modules/@pulumi/pulumi/cmd/run/index.js"), fakeRunner);
    await writeFile(join(path, "how"), how);
    return path;
  }

  function run(path: string, options: Record<string, struct.JavaScriptValue>): Promise<RunResponse> {
    const info = new language.ProgramInfo().setRootDirectory(path).setProgramDirectory(path).setEntryPoint("index.ts");
    info.setOptions(struct.Struct.fromJavaScript(options));
    const request = new language.RunRequest()
      .setProject("p")
      .setStack("dev")
      .setDryrun(true)
      .setParallel(4)
      .setInfo(info);
    request.setMonitorAddress("127.0.0.1:8");
    request.getConfigMap().set("p:key", "value");
    return new Promise((resolve, reject) => {
      client.run(request, (error, response) => (error === null ? resolve(response) : reject(error)));
    });
  }

  it("runs Pulumi's runner with the options of Pulumi.yaml, and lets its output through", async () => {
    output = "";
    const response = await run(await program("0"), {
      typescript: false,
      nodeargs: "--no-warnings --stack-trace-limit=7",
    });
    expect([response.getError(), response.getBail()]).toEqual(["", false]);
    await until("the output arrives", () => output.includes("\n"));
    const told = JSON.parse(output) as { words: string[]; config: string; typescript: string; flags: string[] };
    expect(told.words).toContain("--dry-run");
    expect(told.words.at(-1)).toBe("index.ts");
    expect(told.words.join(" ")).toContain("--monitor 127.0.0.1:8 --engine 127.0.0.1:9");
    expect(JSON.parse(told.config)).toEqual({ "p:config:key": "value" });
    expect(told.typescript).toBe("unset");
    expect(told.flags).toEqual(["--no-warnings", "--stack-trace-limit=7"]);
  });

  it("is silent where the program has told the person already, and tells where it has not", async () => {
    const shown = await run(await program("32"), {});
    expect([shown.getError(), shown.getBail()]).toEqual(["", true]);
    const failed = await run(await program("3"), {});
    expect([failed.getError(), failed.getBail()]).toEqual(["Program exited with non-zero exit code: 3", false]);
  });

  it("names what is wrong with the options, and a project without packages", async () => {
    expect((await run(await program("0"), { typescript: "yes" })).getError()).toContain("runtime option typescript");
    const bare = await mkdtemp(join(folder, "bare-"));
    expect((await run(bare, {})).getError()).toBe(`@pulumi/pulumi is not installed in ${bare}: run npm ci there`);
  });

  it("stops the program when the engine cancels", async () => {
    output = "";
    const response = run(await program("hang"), {});
    await until("the program runs", () => output.includes("pid "));
    const pid = Number(/pid (\d+)/.exec(output)?.[1]);
    expect(await isRunning(pid)).toBe(true);
    await new Promise<void>((resolve, reject) => {
      client.cancel(new empty.Empty(), (error) => (error === null ? resolve() : reject(error)));
    });
    expect((await response).getError()).toBe("Program was ended by SIGINT");
    expect(await isRunning(pid)).toBe(false);
  });

  it("answers what it is not for: packages are installed by npm, code is not generated", async () => {
    const call = client.installDependencies(new language.InstallDependenciesRequest());
    const said = await new Promise<string>((resolve, reject) => {
      let text = "";
      call.on("data", (part: InstallDependenciesResponse) => {
        text += Buffer.from(part.getStdout_asU8()).toString("utf8");
      });
      call.on("end", () => resolve(text));
      call.on("error", reject);
    });
    expect(said).toContain("npm ci");
    await expect(
      new Promise((resolve, reject) => {
        client.generateProgram(new language.GenerateProgramRequest(), (error, answer) =>
          error ? reject(error) : resolve(answer),
        );
      }),
    ).rejects.toMatchObject({ code: grpc.status.UNIMPLEMENTED });
  });

  it("takes its program along when it is killed", async () => {
    const doomed = spawn(host, ["127.0.0.1:9"], { stdio: ["ignore", "pipe", "pipe"] });
    const port = await firstLine(doomed);
    let said = "";
    doomed.stderr?.on("data", (chunk: Buffer) => {
      said += chunk.toString("utf8");
    });
    const before = client;
    client = new languageService.LanguageRuntimeClient(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
    const lost = run(await program("hang"), {}).catch((error: unknown) => error);
    await until("the program runs", () => said.includes("pid "));
    const pid = Number(/pid (\d+)/.exec(said)?.[1]);
    doomed.kill("SIGTERM");
    await until("the program ends", async () => !(await isRunning(pid)));
    expect(await lost).toBeInstanceOf(Error);
    client.close();
    client = before;
  });
});
