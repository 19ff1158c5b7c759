import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";

// A stack with everything that the project's own stacks use of the Docker provider, on one small image.
const config = new pulumi.Config();
const prefix = config.require("prefix");
const port = config.requireNumber("port");

console.log("the program runs", process.versions.node);
if (config.getBoolean("fail")) {
  const mistake = new pulumi.RunError("the program says what is wrong");
  // With a stack through Pulumi's SDK, Node 20's util.inspect would loop for half a minute over its source maps.
  mistake.stack = "";
  throw mistake;
}

const volume = new docker.Volume("data", { name: `${prefix}-data` }, { retainOnDelete: true });
const network = new docker.Network("network", {
  name: `${prefix}-network`,
  labels: [{ label: "test", value: prefix }],
});
const image = new docker.RemoteImage("image", { name: config.require("image"), keepLocally: true });

const server = new docker.Container("server", {
  name: `${prefix}-server`,
  image: image.imageId,
  command: ["python3", "-m", "http.server", String(port), "--directory", "/data"],
  envs: [
    `LABEL=${config.get("env") ?? "first"}`,
    pulumi.interpolate`TOKEN=${config.getSecret("token") ?? pulumi.secret("none")}`,
  ],
  user: "1000:1000",
  readOnly: true,
  init: true,
  restart: "unless-stopped",
  capabilities: { drops: ["ALL"] },
  securityOpts: ["no-new-privileges"],
  memory: config.getNumber("memory") ?? 64,
  memorySwap: 512,
  cpus: "0.5",
  shmSize: 32,
  tmpfs: { "/tmp": "size=16m,mode=1777" },
  ulimits: [{ name: "nofile", soft: 1024, hard: 2048 }],
  mounts: [
    { type: "volume", source: volume.name, target: "/data" },
    { type: "bind", source: "/etc/hostname", target: "/host-name", readOnly: true },
    { type: "tmpfs", target: "/scratch", tmpfsOptions: { sizeBytes: 1_000_000 } },
  ],
  ports: [{ internal: port, external: config.getNumber("external") ?? port, ip: "127.0.0.1" }],
  labels: [{ label: "test", value: prefix }],
  networksAdvanced: [{ name: network.name, aliases: ["server"] }],
  healthcheck: {
    tests: ["CMD", "python3", "-c", `import urllib.request as u; u.urlopen('http://127.0.0.1:${port}')`],
    interval: "1s",
    timeout: "10s",
    startPeriod: "1m0s",
    retries: 20,
  },
  wait: true,
  waitTimeout: 60,
  logDriver: "json-file",
  logOpts: { "max-size": "10m", "max-file": "3" },
  hostname: "server",
  workingDir: "/data",
  stopSignal: "SIGKILL",
  stopTimeout: 5,
  groupAdds: ["2000"],
  hosts: [{ host: "elsewhere", ip: "192.0.2.1" }],
  sysctls: { "net.core.somaxconn": "1024" },
});

const job = new docker.Container("job", {
  name: `${prefix}-job`,
  image: config.require("image"),
  entrypoints: ["/bin/sh", "-c"],
  command: ["echo done; exit 3"],
  mustRun: false,
  networkMode: "none",
  memorySwap: 0,
});

export const serverName = server.name;
export const jobName = job.name;
export const imageId = image.imageId;
export const driver = volume.driver;
