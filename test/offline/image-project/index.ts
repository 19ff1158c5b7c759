import * as build from "@pulumi/docker-build";
import * as pulumi from "@pulumi/pulumi";

const config = new pulumi.Config();
const image = new build.Image("image", {
  exec: true,
  builder: { name: "default" },
  push: false,
  load: true,
  tags: [`${config.require("prefix")}:1`],
  context: { location: "context" },
  buildArgs: { BASE: config.require("image") },
});

export const reference = image.ref;
