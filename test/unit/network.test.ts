import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isAllowed, isIn, openPorts, type Place, type Policy, PROTOCOLS, readPolicy, selects } from "../lib/network.ts";

/** The evaluator of network policies, held to cases of its documentation and to what must hold of any policies. */

function pod(name: string, namespace = "a", labels: Readonly<Record<string, string>> = { app: name }): Place {
  const namespaceLabels = { "kubernetes.io/metadata.name": namespace };
  return { name, address: "10.4.0.1", pod: { namespace, namespaceLabels, labels, namedPorts: { http: 8080 } } };
}

function policy(spec: object, namespace = "a"): Policy {
  const read = readPolicy({ kind: "NetworkPolicy", ...{ metadata: { name: "p", namespace }, spec } });
  if (read === undefined) throw new Error("no policy");
  return read;
}

const web = pod("web");
const client = pod("client");
const stranger = pod("client", "b");
const internet: Place = { name: "internet", address: "203.0.113.7" };
const all = { podSelector: {} };
const isWeb = { podSelector: { matchLabels: { app: "web" } } };
const isClient = { podSelector: { matchLabels: { app: "client" } } };

/** What is asked, the policies, and the ports that are open. */
const CASES: readonly (readonly [string, readonly Policy[], Place, Place, string])[] = [
  ["without a policy everything is open", [], client, web, "any"],
  ["a policy without rules closes what comes in", [policy({ ...all })], client, web, ""],
  ["and leaves alone what goes out", [policy({ ...all })], web, internet, "any"],
  ["and what comes in elsewhere", [policy({ ...all })], web, stranger, "any"],
  ["egress without rules closes what goes out", [policy({ ...all, policyTypes: ["Egress"] })], web, internet, ""],
  ["and leaves alone what comes in", [policy({ ...all, policyTypes: ["Egress"] })], internet, web, "any"],
  [
    "an egress rule makes a policy one about egress",
    [policy({ ...all, egress: [{ ports: [{ port: 53, protocol: "UDP" }] }] })],
    web,
    internet,
    "udp 53",
  ],
  ["an empty rule lets everybody in", [policy({ ...isWeb, ingress: [{}] })], internet, web, "any"],
  [
    "a pod of the same namespace by its label",
    [policy({ ...isWeb, ingress: [{ from: [isClient] }] })],
    client,
    web,
    "any",
  ],
  [
    "and not one of another namespace with that label",
    [policy({ ...isWeb, ingress: [{ from: [isClient] }] })],
    stranger,
    web,
    "",
  ],
  [
    "pods of a namespace by the namespace's label",
    [
      policy({
        ...isWeb,
        ingress: [{ from: [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "b" } } }] }],
      }),
    ],
    stranger,
    web,
    "any",
  ],
  [
    "both selectors of one peer have to fit",
    [
      policy({
        ...isWeb,
        ingress: [{ from: [{ namespaceSelector: {}, podSelector: { matchLabels: { app: "other" } } }] }],
      }),
    ],
    stranger,
    web,
    "",
  ],
  [
    "of two peers one has to fit",
    [
      policy({
        ...isWeb,
        ingress: [{ from: [{ namespaceSelector: {} }, { podSelector: { matchLabels: { app: "other" } } }] }],
      }),
    ],
    stranger,
    web,
    "any",
  ],
  [
    "of two policies one has to let it in",
    [policy({ ...all }), policy({ ...isWeb, ingress: [{ from: [isClient], ports: [{ port: 80 }] }] })],
    client,
    web,
    "tcp 80",
  ],
  [
    "both ends have to agree",
    [
      policy({ ...isWeb, ingress: [{ from: [isClient], ports: [{ port: 80 }, { port: 81 }] }] }),
      policy({ ...isClient, policyTypes: ["Egress"], egress: [{ to: [isWeb], ports: [{ port: 81 }, { port: 82 }] }] }),
    ],
    client,
    web,
    "tcp 81",
  ],
  [
    "a block of addresses",
    [policy({ ...all, policyTypes: ["Egress"], egress: [{ to: [{ ipBlock: { cidr: "203.0.113.0/24" } }] }] })],
    web,
    internet,
    "any",
  ],
  [
    "but for what is excepted",
    [
      policy({
        ...all,
        policyTypes: ["Egress"],
        egress: [{ to: [{ ipBlock: { cidr: "0.0.0.0/0", except: ["203.0.113.0/29"] } }] }],
      }),
    ],
    web,
    internet,
    "",
  ],
  [
    "a port by the name that it has where it leads",
    [policy({ ...isWeb, ingress: [{ ports: [{ port: "http" }] }] })],
    client,
    web,
    "tcp 8080",
  ],
  [
    "a range of ports",
    [policy({ ...isWeb, ingress: [{ ports: [{ port: 100, endPort: 200, protocol: "UDP" }] }] })],
    client,
    web,
    "udp 100-200",
  ],
  [
    "a protocol without a port",
    [policy({ ...isWeb, ingress: [{ ports: [{ protocol: "SCTP" }] }] })],
    client,
    web,
    "sctp 1-65535",
  ],
  [
    "neighbouring ports are one range",
    [policy({ ...isWeb, ingress: [{ ports: [{ port: 80 }, { port: 81 }] }] })],
    client,
    web,
    "tcp 80-81",
  ],
  ["a pod reaches itself", [policy({ ...all, policyTypes: ["Ingress", "Egress"] })], web, web, "any"],
];

test.each(CASES)("%s", (_title, policies, from, to, expected) => {
  expect(openPorts(policies, from, to)).toBe(expected);
});

test("a field that is not known is no field that is overlooked", () => {
  expect(() => policy({ ...all, ingress: [{ from: [{ serviceSelector: {} }] }] })).toThrow(/serviceSelector/);
});

const KEYS = ["app", "tier"];
const VALUES = ["web", "client", "db"];
const labels = fc.dictionary(fc.constantFrom(...KEYS), fc.constantFrom(...VALUES));
const selector = fc.record(
  {
    matchLabels: labels,
    matchExpressions: fc.array(
      fc.record({
        key: fc.constantFrom(...KEYS),
        operator: fc.constantFrom("In", "NotIn", "Exists", "DoesNotExist"),
        values: fc.subarray(VALUES, { minLength: 1 }),
      }),
      { maxLength: 2 },
    ),
  },
  { requiredKeys: [] },
);
const block = fc.constantFrom("0.0.0.0/0", "10.0.0.0/8", "203.0.113.0/24", "203.0.113.6/31");
const peer = fc.oneof(
  fc.record({ podSelector: selector }),
  fc.record({ namespaceSelector: fc.constantFrom({}, { matchLabels: { "kubernetes.io/metadata.name": "b" } }) }),
  fc.record({ ipBlock: fc.record({ cidr: block, except: fc.array(block, { maxLength: 1 }) }) }),
);
const port = fc.oneof(
  fc.record({ port: fc.integer({ min: 1, max: 65_535 }), protocol: fc.constantFrom(...PROTOCOLS) }),
  fc.integer({ min: 1, max: 60_000 }).map((first) => ({ port: first, endPort: first + 99 })),
  fc.constant({ port: "http" }),
);
const rule = (side: "from" | "to") =>
  fc.record({ [side]: fc.array(peer, { maxLength: 2 }), ports: fc.array(port, { maxLength: 2 }) });
const policies = fc.array(
  fc
    .record(
      {
        podSelector: selector,
        policyTypes: fc.subarray(["Ingress", "Egress"], { minLength: 1 }),
        ingress: fc.array(rule("from"), { maxLength: 2 }),
        egress: fc.array(rule("to"), { maxLength: 2 }),
      },
      { requiredKeys: ["podSelector"] },
    )
    .map((spec) => policy(spec)),
  { maxLength: 4 },
);
const place = fc.oneof(
  fc
    .record({ name: fc.constantFrom("x", "y"), labels, namespace: fc.constantFrom("a", "b") })
    .map((one) => pod(one.name, one.namespace, one.labels)),
  fc.constant(internet),
);
const probe = fc.record({
  from: place,
  to: place,
  protocol: fc.constantFrom(...PROTOCOLS),
  number: fc.oneof(fc.integer({ min: 1, max: 65_535 }), fc.constantFrom(1, 8080, 8081, 65_535)),
});

describe("whatever the policies", () => {
  test("their order does not matter", () => {
    fc.assert(
      fc.property(policies, probe, (given, { from, to, protocol, number }) => {
        const ask = (order: readonly Policy[]) => isAllowed(order, from, to, protocol, number);
        expect(ask([...given].reverse())).toBe(ask(given));
      }),
    );
  });

  test("a rule more opens and never closes", () => {
    fc.assert(
      fc.property(policies, probe, rule("to"), (given, { from, to, protocol, number }, more) => {
        fc.pre(isAllowed(given, from, to, protocol, number));
        const wider = given.map(({ metadata, spec }) =>
          policy(
            { ...spec, ...(spec.egress === undefined ? {} : { egress: [...spec.egress, more] }) },
            metadata.namespace,
          ),
        );
        expect(isAllowed(wider, from, to, protocol, number)).toBe(true);
      }),
    );
  });

  test("where none lets anything through, nothing goes, and a rule for all opens it again", () => {
    const closed = policy({ ...all, policyTypes: ["Ingress", "Egress"] });
    const open = policy({ ...all, policyTypes: ["Ingress", "Egress"], ingress: [{}], egress: [{}] });
    fc.assert(
      fc.property(policies, probe, (given, { from, to, protocol, number }) => {
        fc.pre(from !== to && from.pod?.namespace === "a" && (to.pod === undefined || to.pod.namespace === "a"));
        expect(isAllowed([closed], from, to, protocol, number)).toBe(false);
        expect(isAllowed([...given, closed, open], from, to, protocol, number)).toBe(true);
      }),
    );
  });

  test("the ports that are told open are those that are, each of them asked", () => {
    fc.assert(
      fc.property(policies, probe, (given, { from, to, protocol, number }) => {
        const told = openPorts(given, from, to);
        const ranges = told === "any" ? [`${protocol.toLowerCase()} 1-65535`] : told.split(", ");
        const isTold = ranges.some((range) => {
          const [name, first = "", last = first] = range.split(/[ -]/);
          return name === protocol.toLowerCase() && number >= Number(first) && number <= Number(last);
        });
        expect(isTold).toBe(isAllowed(given, from, to, protocol, number));
      }),
      { numRuns: 500 },
    );
  });

  test("labels by name are the same as In with one value, and NotIn is its opposite", () => {
    const one = (operator: "In" | "NotIn", key: string, value: string) => ({
      matchLabels: {},
      matchExpressions: [{ key, operator, values: [value] }],
    });
    fc.assert(
      fc.property(labels, fc.constantFrom(...KEYS), fc.constantFrom(...VALUES), (of, key, value) => {
        const byName = selects({ matchLabels: { [key]: value }, matchExpressions: [] }, of);
        expect(selects(one("In", key, value), of)).toBe(byName);
        expect(selects(one("NotIn", key, value), of)).toBe(!byName);
      }),
    );
  });

  test("an address is in a block when their first bits are the same", () => {
    const number = fc.integer({ min: 0, max: 2 ** 32 - 1 });
    const text = (address: number) => [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");
    fc.assert(
      fc.property(number, number, fc.integer({ min: 1, max: 32 }), (address, network, length) => {
        expect(isIn(`${text(network)}/${length}`, text(address))).toBe(
          address >>> (32 - length) === network >>> (32 - length),
        );
      }),
    );
    expect(isIn("0.0.0.0/0", "2001:db8::1")).toBe(false);
    expect(isIn("2001:db8::/32", "2001:db8::1")).toBe(true);
  });
});
