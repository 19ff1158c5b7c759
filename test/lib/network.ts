import { BlockList, isIPv6 } from "node:net";
import { z } from "zod";

/**
 * What network policies let through, by the semantics of networking.k8s.io/v1 and nothing of a cluster:
 * https://kubernetes.io/docs/concepts/services-networking/network-policies. It reads policies strictly, so that a field
 * which it does not know fails and is not overlooked.
 */

const requirement = z.strictObject({
  key: z.string(),
  operator: z.enum(["In", "NotIn", "Exists", "DoesNotExist"]),
  values: z.array(z.string()).default([]),
});
const selectorSchema = z.strictObject({
  matchLabels: z.record(z.string(), z.string()).default({}),
  matchExpressions: z.array(requirement).default([]),
});
const protocolSchema = z.enum(["TCP", "UDP", "SCTP"]);
const portSchema = z.strictObject({
  protocol: protocolSchema.default("TCP"),
  port: z.union([z.int(), z.string()]).optional(),
  endPort: z.int().optional(),
});
const peerSchema = z.strictObject({
  podSelector: selectorSchema.optional(),
  namespaceSelector: selectorSchema.optional(),
  ipBlock: z.strictObject({ cidr: z.string(), except: z.array(z.string()).default([]) }).optional(),
});
const ports = z.array(portSchema).default([]);
const peers = z.array(peerSchema).default([]);
const policySchema = z.looseObject({
  metadata: z.looseObject({ name: z.string(), namespace: z.string() }),
  spec: z.strictObject({
    podSelector: selectorSchema,
    policyTypes: z.array(z.enum(["Ingress", "Egress"])).optional(),
    ingress: z.array(z.strictObject({ from: peers, ports })).optional(),
    egress: z.array(z.strictObject({ to: peers, ports })).optional(),
  }),
});

export type Policy = z.output<typeof policySchema>;
export type Protocol = z.output<typeof protocolSchema>;
type Selector = z.output<typeof selectorSchema>;
type Peer = z.output<typeof peerSchema>;
type PolicyPort = z.output<typeof portSchema>;

export const PROTOCOLS = protocolSchema.options;
const LAST_PORT = 65_535;

/** Something with an address; a pod also has labels, by which policies know it. */
export interface Place {
  readonly name: string;
  readonly address: string;
  readonly pod?: {
    readonly namespace: string;
    readonly namespaceLabels: Readonly<Record<string, string>>;
    readonly labels: Readonly<Record<string, string>>;
    /** Ports of its containers that have a name. */
    readonly namedPorts: Readonly<Record<string, number>>;
  };
}

/** @param object any object; undefined where it is no network policy. */
export function readPolicy(object: { readonly kind: string }): Policy | undefined {
  if (object.kind !== "NetworkPolicy") return undefined;
  return policySchema.parse(JSON.parse(JSON.stringify(object)));
}

/** Whether `from` may open a connection to this port of `to`: as far as both ends let it. */
export function isAllowed(
  policies: readonly Policy[],
  from: Place,
  to: Place,
  protocol: Protocol,
  port: number,
): boolean {
  return passes(wayBetween(policies, from, to), to, protocol, port);
}

/** What an end of a connection asks of its port: one of these lists has to have it; undefined asks nothing. */
type Asked = readonly (readonly PolicyPort[])[] | undefined;

/** What both ends ask of a connection. No policy keeps a pod from itself. */
function wayBetween(policies: readonly Policy[], from: Place, to: Place): readonly Asked[] {
  if (from === to) return [];
  return [
    askedBy(policies, from, "Egress", ({ namespace, egress }) =>
      egress.filter((rule) => hasPeer(rule.to, namespace, to)),
    ),
    askedBy(policies, to, "Ingress", ({ namespace, ingress }) =>
      ingress.filter((rule) => hasPeer(rule.from, namespace, from)),
    ),
  ];
}

function passes(way: readonly Asked[], to: Place, protocol: Protocol, port: number): boolean {
  return way.every((asked) => asked === undefined || asked.some((listed) => hasPort(listed, to, protocol, port)));
}

interface Rules {
  readonly namespace: string;
  readonly ingress: NonNullable<Policy["spec"]["ingress"]>;
  readonly egress: NonNullable<Policy["spec"]["egress"]>;
}

/** In a direction for which no policy selects it, a place is open; else a rule of some policy has to fit. */
function askedBy(
  policies: readonly Policy[],
  { pod }: Place,
  direction: "Ingress" | "Egress",
  fitting: (rules: Rules) => readonly { readonly ports: readonly PolicyPort[] }[],
): Asked {
  if (pod === undefined) return undefined;
  const selecting = policies.filter(
    (policy) =>
      policy.metadata.namespace === pod.namespace &&
      directionsOf(policy).includes(direction) &&
      selects(policy.spec.podSelector, pod.labels),
  );
  if (selecting.length === 0) return undefined;
  return selecting.flatMap(({ metadata: { namespace }, spec: { ingress = [], egress = [] } }) =>
    fitting({ namespace, ingress, egress }).map(({ ports }) => ports),
  );
}

/** Without its types a policy is about what comes in, and about what goes out where it says something of that. */
function directionsOf({ spec: { policyTypes, egress } }: Policy): readonly ("Ingress" | "Egress")[] {
  return policyTypes ?? (egress === undefined ? ["Ingress"] : ["Ingress", "Egress"]);
}

export function selects(
  { matchLabels, matchExpressions }: Selector,
  labels: Readonly<Record<string, string>>,
): boolean {
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every((one) => isMet(one, labels[one.key]))
  );
}

function isMet({ operator, values }: z.output<typeof requirement>, value: string | undefined): boolean {
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
  }
}

/** A rule without peers is about everybody. */
function hasPeer(listed: readonly Peer[], namespace: string, place: Place): boolean {
  return listed.length === 0 || listed.some((peer) => isPeer(peer, namespace, place));
}

function isPeer(
  { podSelector, namespaceSelector, ipBlock }: Peer,
  namespace: string,
  { pod, address }: Place,
): boolean {
  if (ipBlock !== undefined)
    return isIn(ipBlock.cidr, address) && !ipBlock.except.some((block) => isIn(block, address));
  if (pod === undefined) return false;
  const inNamespace =
    namespaceSelector === undefined ? pod.namespace === namespace : selects(namespaceSelector, pod.namespaceLabels);
  return inNamespace && (podSelector === undefined || selects(podSelector, pod.labels));
}

/** Whether an address lies in a block. Example: `10.1.2.3` in `10.0.0.0/8`. */
export function isIn(block: string, address: string): boolean {
  const [network = "", length] = block.split("/");
  const family = isIPv6(network) ? "ipv6" : "ipv4";
  if (isIPv6(address) !== (family === "ipv6")) return false;
  const list = new BlockList();
  list.addSubnet(network, Number(length), family);
  return list.check(address, family);
}

/** A rule without ports is about all of them; a name means the port that has it in the pod that is reached. */
function hasPort(listed: readonly PolicyPort[], { pod }: Place, protocol: Protocol, port: number): boolean {
  if (listed.length === 0) return true;
  return listed.some((one) => {
    if (one.protocol !== protocol) return false;
    if (one.port === undefined) return true;
    if (typeof one.port === "string") return pod?.namedPorts[one.port] === port;
    return port >= one.port && port <= (one.endPort ?? one.port);
  });
}

/**
 * Every port of every protocol, as a scan would find it. Between two ports that some rule names the answer is the same
 * for all, so that one of them is asked.
 * @returns such as `tcp 80, tcp 443, udp 53`, `any`, or an empty text for none.
 */
export function openPorts(policies: readonly Policy[], from: Place, to: Place): string {
  const way = wayBetween(policies, from, to);
  const edges = [...new Set([1, ...edgesOf(way, to)])].sort((a, b) => a - b);
  const open = PROTOCOLS.flatMap((protocol) => {
    const ranges: [number, number][] = [];
    for (const [index, first] of edges.entries()) {
      if (!passes(way, to, protocol, first)) continue;
      const last = (edges[index + 1] ?? LAST_PORT + 1) - 1;
      const before = ranges.at(-1);
      if (before !== undefined && before[1] === first - 1) before[1] = last;
      else ranges.push([first, last]);
    }
    return ranges.map(([first, last]) => ({ protocol, first, last }));
  });
  const whole = open.filter(({ first, last }) => first === 1 && last === LAST_PORT);
  if (whole.length === PROTOCOLS.length) return "any";
  return open
    .map(({ protocol, first, last }) => `${protocol.toLowerCase()} ${first === last ? first : `${first}-${last}`}`)
    .join(", ");
}

/** Ports at which an answer can change: the first of each range that is named, and the one after its last. */
function edgesOf(way: readonly Asked[], { pod }: Place): readonly number[] {
  const edges = way.flatMap((asked = []) =>
    asked.flat().flatMap(({ port, endPort }) => {
      const first = typeof port === "string" ? pod?.namedPorts[port] : port;
      return first === undefined ? [] : [first, (endPort ?? first) + 1];
    }),
  );
  return edges.filter((port) => port <= LAST_PORT);
}
