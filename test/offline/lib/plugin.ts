import { type ChildProcess, spawn } from "node:child_process";
import * as grpc from "@grpc/grpc-js";
import providerService from "@pulumi/pulumi/proto/provider_grpc_pb.js";
import type { CheckResponse, CreateResponse, DiffResponse, ReadResponse } from "@pulumi/pulumi/proto/provider_pb.js";
import provider from "@pulumi/pulumi/proto/provider_pb.js";
import struct from "google-protobuf/google/protobuf/struct_pb.js";
import type { Properties } from "../../../offline/docker-provider/shape.ts";

function toStruct(value: Properties) {
  return struct.Struct.fromJavaScript(JSON.parse(JSON.stringify(value)) as { [name: string]: struct.JavaScriptValue });
}

function toProperties(value: { toJavaScript(): unknown } | undefined): Properties {
  return (value?.toJavaScript() ?? {}) as Properties;
}

const kinds = provider.PropertyDiff.Kind;
const replacing = new Set<number>([kinds.ADD_REPLACE, kinds.UPDATE_REPLACE, kinds.DELETE_REPLACE]);

/** A provider plugin, started and spoken to as the engine does it. */
export class Plugin {
  private readonly process: ChildProcess;
  private readonly client: InstanceType<typeof providerService.ResourceProviderClient>;

  private constructor(process: ChildProcess, port: string) {
    this.process = process;
    this.client = new providerService.ResourceProviderClient(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  }

  static async start(program: string, configuration: Properties = {}): Promise<Plugin> {
    const child = spawn(program, [], { stdio: ["ignore", "pipe", "ignore"] });
    const port = await new Promise<string>((resolve, reject) => {
      child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString("utf8").trim()));
      child.once("error", reject);
      child.once("exit", (code) => reject(new Error(`${program} ended at once with exit code ${code}`)));
    });
    const plugin = new Plugin(child, port);
    const request = new provider.ConfigureRequest().setArgs(toStruct(configuration)).setAcceptsecrets(true);
    await plugin.call<unknown>((done) => plugin.client.configure(request, done));
    return plugin;
  }

  private call<Response>(send: (done: (error: grpc.ServiceError | null, response: Response) => void) => void) {
    return new Promise<Response>((resolve, reject) => {
      send((error, response) => (error === null ? resolve(response) : reject(error)));
    });
  }

  async check(urn: string, given: Properties, old: Properties = {}) {
    const request = new provider.CheckRequest().setUrn(urn).setNews(toStruct(given)).setOlds(toStruct(old));
    request.setRandomseed(Buffer.alloc(32, 7));
    const response = await this.call<CheckResponse>((done) => this.client.check(request, done));
    const problems = response.getFailuresList().map((one) => `${one.getProperty()}: ${one.getReason()}`);
    return { inputs: toProperties(response.getInputs()), problems };
  }

  async diff(urn: string, id: string, state: Properties, inputs: Properties) {
    const request = new provider.DiffRequest().setUrn(urn).setId(id).setOlds(toStruct(state)).setNews(toStruct(inputs));
    const response = await this.call<DiffResponse>((done) => this.client.diff(request, done));
    const detailed = [
      ...(response.getDetaileddiffMap().entries() as Iterable<[string, InstanceType<typeof provider.PropertyDiff>]>),
    ];
    const changes = detailed.map(([path, one]) => ({ path, replaces: replacing.has(one.getKind()) }));
    return { changes, deleteFirst: response.getDeletebeforereplace() };
  }

  async create(urn: string, inputs: Properties, preview = false) {
    const request = new provider.CreateRequest().setUrn(urn).setProperties(toStruct(inputs)).setPreview(preview);
    const response = await this.call<CreateResponse>((done) => this.client.create(request, done));
    return { id: response.getId(), state: toProperties(response.getProperties()) };
  }

  async read(urn: string, id: string, state: Properties, inputs: Properties) {
    const request = new provider.ReadRequest()
      .setUrn(urn)
      .setId(id)
      .setProperties(toStruct(state))
      .setInputs(toStruct(inputs));
    const response = await this.call<ReadResponse>((done) => this.client.read(request, done));
    return {
      id: response.getId(),
      state: toProperties(response.getProperties()),
      inputs: toProperties(response.getInputs()),
    };
  }

  async remove(urn: string, id: string, state: Properties): Promise<void> {
    const request = new provider.DeleteRequest().setUrn(urn).setId(id).setProperties(toStruct(state));
    await this.call<unknown>((done) => this.client.delete(request, done));
  }

  /** Whether the process is still there. */
  get running(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  stop(): Promise<void> {
    this.client.close();
    return new Promise((resolve) => {
      this.process.once("exit", () => resolve());
      this.process.kill("SIGTERM");
    });
  }
}
