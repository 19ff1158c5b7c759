import * as grpc from "@grpc/grpc-js";
import plugin from "@pulumi/pulumi/proto/plugin_pb.js";
import type { IResourceProviderServer } from "@pulumi/pulumi/proto/provider_grpc_pb.js";
import provider from "@pulumi/pulumi/proto/provider_pb.js";
import statusMessages from "@pulumi/pulumi/proto/status_pb.js";
import type Docker from "dockerode";
import any from "google-protobuf/google/protobuf/any_pb.js";
import empty from "google-protobuf/google/protobuf/empty_pb.js";
import struct from "google-protobuf/google/protobuf/struct_pb.js";
import { unary, unimplemented } from "../rpc/serve.ts";
import { checkConfig, hostOf } from "./configuration.ts";
import { type Change, topLevel } from "./diff.ts";
import { connect } from "./engine.ts";
import { operations, resourceOf, type Warn } from "./operations.ts";
import { Incomplete } from "./resource.ts";
import type { Properties } from "./shape.ts";
import { withMeta } from "./state.ts";

type Struct = InstanceType<typeof struct.Struct>;

function toProperties(value: Struct | undefined): Properties {
  return (value?.toJavaScript() ?? {}) as Properties;
}

/** The engine's form has no place for what is undefined; JSON leaves it out. */
function toStruct(value: Properties): Struct {
  return struct.Struct.fromJavaScript(JSON.parse(JSON.stringify(value)) as { [name: string]: struct.JavaScriptValue });
}

const kinds = {
  add: [provider.PropertyDiff.Kind.ADD, provider.PropertyDiff.Kind.ADD_REPLACE],
  delete: [provider.PropertyDiff.Kind.DELETE, provider.PropertyDiff.Kind.DELETE_REPLACE],
  update: [provider.PropertyDiff.Kind.UPDATE, provider.PropertyDiff.Kind.UPDATE_REPLACE],
} as const;

function diffResponse(changes: readonly Change[]) {
  const response = new provider.DiffResponse();
  const { DIFF_NONE, DIFF_SOME } = provider.DiffResponse.DiffChanges;
  response.setChanges(changes.length === 0 ? DIFF_NONE : DIFF_SOME);
  response.setDiffsList([...new Set(changes.map(({ path }) => topLevel(path)))].sort());
  response.setReplacesList(
    [...new Set(changes.filter((one) => one.replaces).map(({ path }) => topLevel(path)))].sort(),
  );
  response.setHasdetaileddiff(true);
  for (const { path, kind, replaces } of changes) {
    response.getDetaileddiffMap().set(path, new provider.PropertyDiff().setKind(kinds[kind][replaces ? 1 : 0]));
  }
  return response;
}

/** The status by which the engine learns that a resource exists, although not as it was asked for. */
function initializationFailure(urn: string, failure: Incomplete): Partial<grpc.StatusObject> {
  const detail = new provider.ErrorResourceInitFailed();
  detail.setId(failure.id);
  detail.setProperties(toStruct(withMeta(resourceOf(urn), failure.state)));
  detail.setReasonsList([failure.message]);
  const packed = new any.Any();
  packed.pack(detail.serializeBinary(), "pulumirpc.ErrorResourceInitFailed");
  const status = new statusMessages.Status();
  status.setCode(grpc.status.UNKNOWN);
  status.setMessage(failure.message);
  status.addDetails(packed);
  const metadata = new grpc.Metadata();
  metadata.add("grpc-status-details-bin", Buffer.from(status.serializeBinary()));
  return { code: grpc.status.UNKNOWN, details: failure.message, metadata };
}

export interface ProviderFacts {
  readonly version: string;
  readonly warn: Warn;
}

/** The Docker provider's service: each call turned into plain values, done, and turned back. */
export function dockerProvider({ version, warn }: ProviderFacts): IResourceProviderServer {
  let docker: Docker | undefined;
  const engine = (): Docker => {
    docker ??= connect(hostOf({}));
    return docker;
  };
  const does = operations(engine, warn);
  const refuse = (method: string) => (_call: unknown, callback: grpc.sendUnaryData<never>) =>
    callback(unimplemented(method));

  return {
    handshake: unary(async () => new provider.ProviderHandshakeResponse()),
    getPluginInfo: unary(async () => new plugin.PluginInfo().setVersion(version)),
    getSchema: unary(async () =>
      new provider.GetSchemaResponse().setSchema(JSON.stringify({ name: "docker", version })),
    ),
    attach: unary(async () => new empty.Empty()),
    cancel: unary(async () => new empty.Empty()),

    checkConfig: unary(async (request) => {
      const given = toProperties(request.getNews());
      const failures = checkConfig(given).map(({ path, reason }) =>
        new provider.CheckFailure().setProperty(path).setReason(reason),
      );
      return new provider.CheckResponse().setInputs(request.getNews()).setFailuresList(failures);
    }),

    diffConfig: unary(async (request) => {
      const before = toProperties(request.getOlds());
      const after = toProperties(request.getNews());
      const changed = hostOf(before) === hostOf(after) ? [] : ["host"];
      return diffResponse(changed.map((path) => ({ path, kind: "update", replaces: false })));
    }),

    configure: unary(async (request) => {
      docker = connect(hostOf(toProperties(request.getArgs())));
      return new provider.ConfigureResponse().setSupportspreview(true);
    }),

    check: unary(async (request) => {
      const given = toProperties(request.getNews());
      const seed = request.getRandomseed_asU8();
      const { inputs, problems } = does.check(request.getUrn(), given, toProperties(request.getOlds()), seed);
      const failures = problems.map(({ path, reason }) =>
        new provider.CheckFailure().setProperty(path).setReason(reason),
      );
      return new provider.CheckResponse().setInputs(toStruct(inputs)).setFailuresList(failures);
    }),

    diff: unary(async (request) => {
      const state = toProperties(request.getOlds());
      const inputs = toProperties(request.getNews());
      const { changes, stable, deleteFirst } = does.diff(
        request.getUrn(),
        state,
        inputs,
        request.getIgnorechangesList(),
      );
      return diffResponse(changes)
        .setStablesList([...stable].sort())
        .setDeletebeforereplace(deleteFirst);
    }),

    create: unary(async (request) => {
      try {
        const made = await does.create(request.getUrn(), toProperties(request.getProperties()), request.getPreview());
        return new provider.CreateResponse().setId(made.id).setProperties(toStruct(made.state));
      } catch (error) {
        throw error instanceof Incomplete ? initializationFailure(request.getUrn(), error) : error;
      }
    }),

    read: unary(async (request) => {
      const state = toProperties(request.getProperties());
      const found = await does.read(request.getUrn(), request.getId(), state, toProperties(request.getInputs()));
      const response = new provider.ReadResponse();
      if (found === undefined) return response;
      return response.setId(found.id).setProperties(toStruct(found.state)).setInputs(toStruct(found.inputs));
    }),

    update: unary(async (request) => {
      const next = await does.update(
        request.getUrn(),
        request.getId(),
        toProperties(request.getOlds()),
        toProperties(request.getNews()),
        request.getIgnorechangesList(),
        request.getPreview(),
      );
      return new provider.UpdateResponse().setProperties(toStruct(next));
    }),

    delete: unary(async (request) => {
      await does.remove(request.getUrn(), request.getId(), toProperties(request.getProperties()));
      return new empty.Empty();
    }),

    invoke: unary(async (request) => {
      throw new Error(`function ${request.getTok()}: this stand-in of the Docker provider has no functions`);
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
