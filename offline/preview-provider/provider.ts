import type * as grpc from "@grpc/grpc-js";
import plugin from "@pulumi/pulumi/proto/plugin_pb.js";
import type { IResourceProviderServer } from "@pulumi/pulumi/proto/provider_grpc_pb.js";
import provider from "@pulumi/pulumi/proto/provider_pb.js";
import empty from "google-protobuf/google/protobuf/empty_pb.js";
import type struct from "google-protobuf/google/protobuf/struct_pb.js";
import { unary, unimplemented } from "../rpc/serve.ts";
import { type Change, diff, type Value } from "./diff.ts";

type Struct = InstanceType<typeof struct.Struct>;

const KINDS = {
  add: provider.PropertyDiff.Kind.ADD,
  delete: provider.PropertyDiff.Kind.DELETE,
  update: provider.PropertyDiff.Kind.UPDATE,
} as const;

export interface PluginFacts {
  /** Example: `gcp`. */
  readonly name: string;
  readonly version: string;
}

/** The plugin that a folder of PULUMI_HOME is for. Example: `resource-gcp-v9.37.0`. */
export function pluginOf(folder: string): PluginFacts {
  const [, name, version] = /^resource-(.+)-v(\d.*)$/.exec(folder) ?? [];
  if (name === undefined || version === undefined) throw new Error(`${folder} is no folder of a resource plugin`);
  return { name, version };
}

/**
 * A provider of any package that knows no schema and reaches no cloud: a preview shows every resource with its inputs, and
 * what only the cloud knows as unknown. Whatever would change something is refused.
 */
export function previewProvider({ name, version }: PluginFacts): IResourceProviderServer {
  const refusal = (urn: string) =>
    new Error(
      `${urn.split("::").at(-1)}: only previewed. The plugin ${name} ${version} could not be downloaded (get.pulumi.com ` +
        "does not answer), and what stands in for it changes nothing. Where that host can be reached, run npm start and try again",
    );
  const refuse = (method: string) => (_call: unknown, callback: grpc.sendUnaryData<never>) =>
    callback(unimplemented(method));

  return {
    handshake: unary(async () =>
      new provider.ProviderHandshakeResponse().setAcceptSecrets(true).setAcceptResources(true).setAcceptOutputs(true),
    ),
    getPluginInfo: unary(async () => new plugin.PluginInfo().setVersion(version)),
    getSchema: unary(async () => new provider.GetSchemaResponse().setSchema(JSON.stringify({ name, version }))),
    attach: unary(async () => new empty.Empty()),
    cancel: unary(async () => new empty.Empty()),

    checkConfig: unary(async (request) => new provider.CheckResponse().setInputs(request.getNews())),
    diffConfig: unary(async (request) => diffResponse(diff(toValue(request.getOlds()), toValue(request.getNews())))),
    configure: unary(async () =>
      new provider.ConfigureResponse()
        .setSupportspreview(true)
        .setAcceptsecrets(true)
        .setAcceptresources(true)
        .setAcceptoutputs(true),
    ),

    check: unary(async (request) => new provider.CheckResponse().setInputs(request.getNews())),
    diff: unary(async (request) => {
      // Without a schema nobody knows what only a replacement could change.
      const before = request.getOldInputs() ?? request.getOlds();
      return diffResponse(diff(toValue(before), toValue(request.getNews())));
    }),

    create: unary(async (request) => {
      if (!request.getPreview()) throw refusal(request.getUrn());
      return new provider.CreateResponse().setProperties(request.getProperties());
    }),
    read: unary(async (request) =>
      new provider.ReadResponse()
        .setId(request.getId())
        .setProperties(request.getProperties())
        .setInputs(request.getInputs()),
    ),
    update: unary(async (request) => {
      if (!request.getPreview()) throw refusal(request.getUrn());
      return new provider.UpdateResponse().setProperties(request.getNews());
    }),
    delete: unary(async (request) => {
      throw refusal(request.getUrn());
    }),

    invoke: unary(async (request) => {
      throw new Error(`function ${request.getTok()}: what stands in for the plugin ${name} asks no cloud`);
    }),
    list: (call) => {
      call.emit("error", unimplemented("List"));
    },
    parameterize: refuse("Parameterize"),
    call: refuse("Call"),
    construct: refuse("Construct"),
    getMapping: refuse("GetMapping"),
    getMappings: refuse("GetMappings"),
  };
}

function toValue(properties: Struct | undefined): Value {
  return (properties?.toJavaScript() ?? {}) as Value;
}

function diffResponse(changes: readonly Change[]) {
  const { DIFF_NONE, DIFF_SOME } = provider.DiffResponse.DiffChanges;
  const response = new provider.DiffResponse()
    .setChanges(changes.length === 0 ? DIFF_NONE : DIFF_SOME)
    .setDiffsList([...new Set(changes.map(({ path }) => path.replace(/[.[].*$/, "")))].sort())
    .setHasdetaileddiff(true);
  for (const { path, kind } of changes) {
    response.getDetaileddiffMap().set(path, new provider.PropertyDiff().setKind(KINDS[kind]));
  }
  return response;
}
