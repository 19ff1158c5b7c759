import type { PreviewedResource, Rule, Violation } from "./types.ts";
import { isTree, textsIn, treesIn } from "./values.ts";

const RULE = "public-exposure";
const LOOPBACK = new Set(["127.0.0.1", "::1"]);
const EVERYWHERE = new Set(["0.0.0.0/0", "::/0"]);

/** Nothing can be reached from outside: ports on the loopback address alone, no open firewall, no public address. */
export const publicExposure: Rule = {
  name: RULE,
  demands:
    "ports are published on the loopback address alone, firewalls let nobody in from everywhere, no machine has a public address",
  check: (resources) =>
    resources
      .filter(({ operation }) => operation !== "delete")
      .flatMap((resource) => [...publishedPorts(resource), ...openFirewall(resource), ...publicAddress(resource)]),
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
