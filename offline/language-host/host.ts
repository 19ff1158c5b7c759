import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { handleServerStreamingCall, ServerUnaryCall, sendUnaryData } from "@grpc/grpc-js";
import type { ILanguageRuntimeServer } from "@pulumi/pulumi/proto/language_grpc_pb.js";
import languageService from "@pulumi/pulumi/proto/language_grpc_pb.js";
import type { ProgramInfo, RunRequest } from "@pulumi/pulumi/proto/language_pb.js";
import language from "@pulumi/pulumi/proto/language_pb.js";
import plugin from "@pulumi/pulumi/proto/plugin_pb.js";
import empty from "google-protobuf/google/protobuf/empty_pb.js";
import { toServiceError, unary, unimplemented } from "../rpc/serve.ts";
import { parseOptions } from "./options.ts";
import { requiredPackages } from "./packages.ts";
import { cancelPrograms, type ProgramRun, runProgram } from "./program.ts";

export interface HostFacts {
  /** The version that the host reports: that of the CLI it stands beside. */
  readonly version: string;
  readonly engine: string;
}

function optionsOf(info: ProgramInfo | undefined): Readonly<Record<string, unknown>> {
  return info?.getOptions()?.toJavaScript() ?? {};
}

function programRun(request: RunRequest, engine: string): ProgramRun {
  const info = request.getInfo();
  return {
    engine,
    monitor: request.getMonitorAddress(),
    organization: request.getOrganization(),
    project: request.getProject(),
    stack: request.getStack(),
    rootFolder: info?.getRootDirectory() ?? "",
    programFolder: info?.getProgramDirectory() ?? request.getPwd(),
    entryPoint: info?.getEntryPoint() || ".",
    dryRun: request.getDryrun(),
    parallel: request.getParallel(),
    arguments: request.getArgsList(),
    config: new Map(request.getConfigMap().entries() as Iterable<[string, string]>),
    secretKeys: request.getConfigsecretkeysList(),
  };
}

async function dependencies(folder: string): Promise<readonly { name: string; version: string }[]> {
  const text = await readFile(join(folder, "package.json"), "utf8").catch(() => "{}");
  const json = JSON.parse(text) as { dependencies?: Record<string, string>; devDependencies?: Record<string, string> };
  const names = Object.keys({ ...json.dependencies, ...json.devDependencies }).sort();
  return Promise.all(
    names.map(async (name) => {
      const installed = await readFile(join(folder, "node_modules", name, "package.json"), "utf8").catch(() => "{}");
      const { version } = JSON.parse(installed) as { version?: string };
      return { name, version: version ?? "not installed" };
    }),
  );
}

/** The project installs its packages itself, by its lock; the host says so instead of doing it a second way. */
const installDependencies: handleServerStreamingCall<
  InstanceType<typeof language.InstallDependenciesRequest>,
  InstanceType<typeof language.InstallDependenciesResponse>
> = (call) => {
  const said = "Packages are installed by npm ci (or npm start); nothing is installed here.\n";
  call.write(new language.InstallDependenciesResponse().setStdout(Buffer.from(said)));
  call.end();
};

function refuse<Request, Response>(method: string) {
  return (_call: ServerUnaryCall<Request, Response>, callback: sendUnaryData<Response>) =>
    callback(unimplemented(method));
}

/** The language runtime for Node, over Pulumi's own runner: what running a program takes, and no code generation. */
export function languageRuntime(facts: HostFacts): ILanguageRuntimeServer {
  let engine = facts.engine;
  return {
    handshake: unary(async (request) => {
      engine = request.getEngineAddress();
      return new language.LanguageHandshakeResponse();
    }),
    getPluginInfo: unary(async () => new plugin.PluginInfo().setVersion(facts.version)),
    getRequiredPackages: unary(async (request) => {
      const info = request.getInfo();
      const found = await requiredPackages(info?.getProgramDirectory() ?? "", info?.getRootDirectory() ?? "");
      const packages = found.map((one) => {
        const dependency = new plugin.PackageDependency()
          .setName(one.name)
          .setKind("resource")
          .setVersion(one.version)
          .setServer(one.server);
        if (one.parameterization === undefined) return dependency;
        const { name, version, value } = one.parameterization;
        return dependency.setParameterization(
          new plugin.PackageParameterization().setName(name).setVersion(version).setValue(value),
        );
      });
      return new language.GetRequiredPackagesResponse().setPackagesList(packages);
    }),
    run: (call, callback) => {
      call.on("cancelled", cancelPrograms);
      (async () => {
        const request = call.request;
        if (request.getAttachDebugger()) throw new Error("this language host cannot attach a debugger");
        const options = parseOptions(optionsOf(request.getInfo()));
        return runProgram(programRun(request, engine), options);
      })()
        .catch((error: unknown) => ({ error: error instanceof Error ? error.message : String(error), bail: false }))
        .then(
          ({ error, bail }) => callback(null, new language.RunResponse().setError(error).setBail(bail)),
          (error: unknown) => callback(toServiceError(error)),
        );
    },
    cancel: unary(async () => {
      cancelPrograms();
      return new empty.Empty();
    }),
    about: unary(async () => {
      const response = new language.AboutResponse().setExecutable(process.execPath);
      response.setVersion(process.version);
      response.getMetadataMap().set("language host", "tunestack stand-in");
      return response;
    }),
    getProgramDependencies: unary(async (request) => {
      const folder = request.getInfo()?.getProgramDirectory() ?? request.getPwd();
      const list = (await dependencies(folder)).map(({ name, version }) =>
        new language.DependencyInfo().setName(name).setVersion(version),
      );
      return new language.GetProgramDependenciesResponse().setDependenciesList(list);
    }),
    installDependencies,
    runtimeOptionsPrompts: unary(async () => new language.RuntimeOptionsResponse()),
    template: unary(async () => new language.TemplateResponse()),
    runPlugin: (call) => {
      call.emit("error", unimplemented("RunPlugin"));
    },
    getRequiredPlugins: refuse("GetRequiredPlugins"),
    generateProgram: refuse("GenerateProgram"),
    generateProject: refuse("GenerateProject"),
    generatePackage: refuse("GeneratePackage"),
    pack: refuse("Pack"),
    link: refuse("Link"),
  };
}

export const languageRuntimeService = languageService.LanguageRuntimeService;
