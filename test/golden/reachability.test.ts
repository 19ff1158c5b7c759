import { describe, expect, test } from "vitest";
import { z } from "zod";
import type { KubernetesObject } from "../../k8s/objects.ts";
import { expectGolden } from "../lib/golden.ts";
import { podTemplates, renderCluster } from "../lib/kubernetes.ts";
import { openPorts, type Place, type Policy, readPolicy } from "../lib/network.ts";

/** A port scan of two stacks of one cluster, of what else is in it and of what lies outside, by their policies alone. */

const kubernetes = { run: { nodes: 2 }, metricsFrom: "monitoring" };
const team = renderCluster({ stack: "team", kubernetes }).objects;
const other = renderCluster({ stack: "other", kubernetes }).objects;
const policies = [...team, ...other].flatMap((object) => readPolicy(object) ?? []);

const specSchema = z.looseObject({
  containers: z.array(
    z.looseObject({ ports: z.array(z.looseObject({ name: z.string(), containerPort: z.int() })).default([]) }),
  ),
  // No policy is about a pod that has the network of its node.
  hostNetwork: z.literal(false).optional(),
});

let addresses = 0;
const address = () => `10.4.${Math.floor(addresses / 250)}.${(addresses++ % 250) + 1}`;

function podIn(
  namespace: string,
  name: string,
  labels: Readonly<Record<string, string>>,
  namedPorts: Readonly<Record<string, number>> = {},
): Place {
  // Every namespace has this label: https://kubernetes.io/docs/reference/labels-annotations-taints.
  const namespaceLabels = { "kubernetes.io/metadata.name": namespace };
  return { name, address: address(), pod: { namespace, namespaceLabels, labels, namedPorts } };
}

const ANOTHER = ", another of its kind";

/** A stack's pods, two of each: those of one workload may reach each other or not. */
function places(objects: readonly KubernetesObject[]): readonly Place[] {
  return objects.flatMap((object) => {
    const { name, namespace = "" } = object.metadata;
    return podTemplates(object).flatMap(({ metadata, spec }) => {
      const ports = specSchema.parse(spec).containers.flatMap((one) => one.ports);
      const named = Object.fromEntries(ports.map((port) => [port.name, port.containerPort]));
      return [name, `${name}${ANOTHER}`].map((title) => podIn(namespace, title, metadata.labels, named));
    });
  });
}

const ours = places(team);
const ofOther = places(other).map((place) => ({ ...place, name: `${place.name}, of another stack` }));
const inCluster: readonly Place[] = [
  podIn("kube-system", "DNS of the cluster", { "k8s-app": "kube-dns" }),
  podIn("kube-system", "DNS of the node", { "k8s-app": "node-local-dns" }),
  podIn("kube-system", "another pod of kube-system", { "k8s-app": "metrics-server" }),
  podIn("monitoring", "Prometheus", { app: "prometheus" }),
  // Labels are free for all to write.
  ...ours.flatMap(({ name, pod }) =>
    pod === undefined || name.endsWith(ANOTHER) ? [] : [podIn("default", `pod labelled as ${name}, elsewhere`, pod.labels)],
  ),
];
const outside: readonly Place[] = [
  { name: "internet", address: "198.51.100.7" },
  { name: "internet, IPv6", address: "2001:db8::7" },
  { name: "metadata server", address: "169.254.169.254" },
  { name: "API server", address: "10.96.0.1" },
  { name: "API server, private endpoint", address: "172.16.0.2" },
  { name: "node", address: "10.128.0.5" },
  { name: "office network", address: "192.168.1.10" },
  { name: "shared address space", address: "100.64.0.10" },
  { name: "loopback", address: "127.0.0.1" },
];

/** What each place reaches; places that reach nothing are left out, and so is what is not reached. */
function reached(by: readonly Policy[], from: readonly Place[], to: readonly Place[]) {
  const rows = from.filter(({ name }) => !name.includes(ANOTHER)).map((source) => {
    const open = to.flatMap((target) => {
      const ports = source === target ? "" : openPorts(by, source, target);
      return ports === "" ? [] : [[target.name, ports] as const];
    });
    return [source.name, Object.fromEntries(open)] as const;
  });
  return Object.fromEntries(rows.filter(([, open]) => Object.keys(open).length > 0));
}

describe("a stack's pods", () => {
  const everything = [...ours, ...ofOther, ...inCluster, ...outside];

  test("are all scanned, and told apart", () => {
    expect(ours.map(({ name }) => name).sort()).toEqual([...new Set(ours.map(({ name }) => name))].sort());
    const kinds = new Set(team.filter((object) => podTemplates(object).length > 0).map(({ kind }) => kind));
    expect([...kinds].sort()).toEqual(["CronJob", "DaemonSet", "Deployment", "JobSet"]);
  });

  test("reach what they need, and nothing else", () => {
    expectGolden("kubernetes/reaches.yaml", reached(policies, ours, everything));
  });

  test("are reached by those that need them, and by nobody else", () => {
    expectGolden("kubernetes/reached.yaml", reached(policies, [...ofOther, ...inCluster, ...outside], ours));
  });

  test.each(policies.filter(({ metadata }) => metadata.namespace === "tunestack-team"))(
    "need the policy $metadata.name: without it the scan finds something else",
    (policy) => {
      const without = policies.filter((one) => one !== policy);
      const scan = (by: readonly Policy[]) => reached(by, everything, everything);
      expect(scan(without)).not.toEqual(scan(policies));
    },
  );
});
