import type { PreviewedResource, Rule, Violation } from "./types.ts";
import { isTree, textsIn, treesIn } from "./values.ts";

const RULE = "public-exposure";
const LOOPBACK = new Set(["127.0.0.1", "::1"]);
const EVERYWHERE = new Set(["0.0.0.0/0", "::/0"]);

/** Nothing can be reached from outside: ports on the loopback address alone, no open firewall, no public address, no cluster. */
export const publicExposure: Rule = {
  name: RULE,
  demands:
    "ports are published on the loopback address alone, firewalls let nobody in from everywhere, no machine, cluster or service has a public address",
  check: (resources) =>
    resources
      .filter(({ operation }) => operation !== "delete")
      .flatMap((resource) => [
        ...publishedPorts(resource),
        ...openFirewall(resource),
        ...publicAddress(resource),
        ...publicCluster(resource),
        ...publicService(resource),
      ]),
};

function publishedPorts({ name, type, inputs }: PreviewedResource): readonly Violation[] {
  if (type !== "docker:index/container:Container") return [];
  const ports = treesIn(inputs.ports).flatMap(({ ip, external }, index): Violation[] => {
    if (typeof ip === "string" && LOOPBACK.has(ip)) return [];
    return [
      {
        rule: RULE,
        path: `${name}: ports[${index}].ip`,
        value: typeof ip === "string" ? ip : "every address of the machine",
        reason: `port ${external ?? "of the container"} would be open to the network`,
        remedy: "publish it on 127.0.0.1, and reach it from elsewhere through a tunnel (ssh -L)",
      },
    ];
  });
  if (inputs.networkMode !== "host") return ports;
  const host: Violation = {
    rule: RULE,
    path: `${name}: networkMode`,
    value: "host",
    reason: "every port that the service opens would be open to the network",
    remedy: "leave networkMode out, and publish the ports that are needed on 127.0.0.1",
  };
  return [...ports, host];
}

function openFirewall({ name, type, inputs }: PreviewedResource): readonly Violation[] {
  if (type !== "gcp:compute/firewall:Firewall") return [];
  if (inputs.direction === "EGRESS" || treesIn(inputs.allows).length === 0) return [];
  const ranges = textsIn(inputs.sourceRanges);
  const open = ranges.filter((range) => EVERYWHERE.has(range));
  // Without a source of any kind, Google Cloud takes 0.0.0.0/0.
  const bySource = ["sourceRanges", "sourceTags", "sourceServiceAccounts"].some((key) => inputs[key] !== undefined);
  if (open.length === 0 && bySource) return [];
  return [
    {
      rule: RULE,
      path: `${name}: sourceRanges`,
      value: bySource ? open.join(", ") : "not set, which is 0.0.0.0/0",
      reason: "the firewall lets the whole internet in",
      remedy: "give the ranges that need it; for SSH through Identity-Aware Proxy: 35.235.240.0/20",
    },
  ];
}

const MACHINES = /^gcp:compute\/(instance|instanceTemplate|regionInstanceTemplate):/;

function publicAddress({ name, type, inputs }: PreviewedResource): readonly Violation[] {
  if (!MACHINES.test(type)) return [];
  return treesIn(inputs.networkInterfaces).flatMap((network, index): Violation[] => {
    const given = [network.accessConfigs, network.ipv6AccessConfigs].flatMap((list) =>
      Array.isArray(list) ? list : [],
    );
    if (!given.some((config) => isTree(config))) return [];
    return [
      {
        rule: RULE,
        path: `${name}: networkInterfaces[${index}].accessConfigs`,
        reason: "the machine would have a public address",
        remedy: "leave accessConfigs out: Cloud NAT lets it reach the internet, Identity-Aware Proxy lets you reach it",
      },
    ];
  });
}

function publicCluster({ name, type, inputs }: PreviewedResource): readonly Violation[] {
  if (type !== "gcp:container/cluster:Cluster") return [];
  const { privateClusterConfig: network, controlPlaneEndpointsConfig: endpoints } = inputs;
  const nodes: readonly Violation[] =
    isTree(network) && network.enablePrivateNodes === true
      ? []
      : [
          {
            rule: RULE,
            path: `${name}: privateClusterConfig.enablePrivateNodes`,
            reason: "each node would have a public address",
            remedy: "set it to true: Cloud NAT lets the nodes reach the internet",
          },
        ];
  const byAddress = isTree(endpoints) ? endpoints.ipEndpointsConfig : undefined;
  const closed =
    (isTree(byAddress) && byAddress.enabled === false) ||
    (isTree(network) && network.enablePrivateEndpoint === true) ||
    isNarrow(inputs.masterAuthorizedNetworksConfig);
  if (closed) return nodes;
  return [
    ...nodes,
    {
      rule: RULE,
      path: `${name}: controlPlaneEndpointsConfig.ipEndpointsConfig.enabled`,
      reason: "the API server would have a public address that the whole internet reaches",
      remedy: "set it to false and use the DNS endpoint, which asks IAM first; or name masterAuthorizedNetworksConfig",
    },
  ];
}

/** Some addresses may reach the API server, and not all of them. */
function isNarrow(authorized: unknown): boolean {
  if (!isTree(authorized)) return false;
  return treesIn(authorized.cidrBlocks).every(({ cidrBlock }) => !EVERYWHERE.has(String(cidrBlock)));
}

function publicService({ name, type, inputs }: PreviewedResource): readonly Violation[] {
  if (/^kubernetes:(networking\.k8s\.io|extensions)\/v1\w*:Ingress$/.test(type))
    return [
      {
        rule: RULE,
        path: name,
        reason: "a load balancer would let the internet in to what it leads to",
        remedy: "leave it out: npm run open makes a tunnel to a service",
      },
    ];
  const kind = isTree(inputs.spec) ? inputs.spec.type : undefined;
  if (type !== "kubernetes:core/v1:Service" || (kind !== "LoadBalancer" && kind !== "NodePort")) return [];
  return [
    {
      rule: RULE,
      path: `${name}: spec.type`,
      value: kind,
      reason: "the service would be reached from outside of the cluster",
      remedy: "set it to ClusterIP: npm run open makes a tunnel to a service",
    },
  ];
}
