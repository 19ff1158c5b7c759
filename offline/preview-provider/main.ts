import { basename } from "node:path";
import providerService from "@pulumi/pulumi/proto/provider_grpc_pb.js";
import { runPlugin, servePlugin } from "../rpc/serve.ts";
import { pluginOf, previewProvider } from "./provider.ts";

// One bundle serves every package: the folder that it stands in names the plugin.
runPlugin(async () => {
  const service = previewProvider(pluginOf(basename(__dirname)));
  await servePlugin((server) => server.addService(providerService.ResourceProviderService, service));
});
