import * as grpc from "@grpc/grpc-js";
import engineService from "@pulumi/pulumi/proto/engine_grpc_pb.js";
import engine from "@pulumi/pulumi/proto/engine_pb.js";
import providerService from "@pulumi/pulumi/proto/provider_grpc_pb.js";
import { runPlugin, servePlugin } from "../rpc/serve.ts";
import type { Warn } from "./operations.ts";
import { dockerProvider } from "./provider.ts";

/** The version of the provider that is stood in for, set when this file is bundled. */
declare const PROVIDER_VERSION: string;

/** Warnings go to the engine, which shows them beside the resource. */
function warnThrough(address: string | undefined): Warn {
  if (address === undefined) return (_urn, message) => void process.stderr.write(`${message}\n`);
  const client = new engineService.EngineClient(address, grpc.credentials.createInsecure());
  return (urn, message) => {
    const request = new engine.LogRequest().setSeverity(engine.LogSeverity.WARNING).setMessage(message).setUrn(urn);
    client.log(request, () => {});
  };
}

const address = process.argv
  .slice(2)
  .filter((word) => !word.startsWith("-"))
  .at(-1);
const service = dockerProvider({ version: PROVIDER_VERSION, warn: warnThrough(address) });
runPlugin(() => servePlugin((server) => server.addService(providerService.ResourceProviderService, service)));
