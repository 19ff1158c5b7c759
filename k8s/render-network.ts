import type { Plan, Workload } from "../stacks/plan/types.ts";
import type { ClusterLayout } from "./layout.ts";
import { CLOUD_PEER, inNamespace, LABELS, labelsOf } from "./names.ts";
import type { NetworkPolicyObject, Rendered } from "./objects.ts";

/** RFC 1918, RFC 6598. */
const NETWORKS = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"];
/** Addresses that are not the internet's: those, loopback and link-local with the clouds' metadata servers. */
const PRIVATE = [...NETWORKS, "127.0.0.0/8", "169.254.0.0/16"];
const INTERNET = { ipBlock: { cidr: "0.0.0.0/0", except: PRIVATE } };

const tcp = (port: number) => ({ protocol: "TCP", port });
const udp = (port: number) => ({ protocol: "UDP", port });

/**
 * Nobody reaches anybody, but for what is here. `npm run open` goes through the kubelet, which network policies do not
 * hold up, and health checks run inside the containers, so neither needs an exception.
 */
export function renderNetworkPolicies(plan: Plan, layout: ClusterLayout): readonly Rendered[] {
  const policy = (name: string, spec: NetworkPolicyObject["spec"]): Rendered => ({
    logicalName: `network-${name}`,
    object: {
      apiVersion: "networking.k8s.io/v1",
      kind: "NetworkPolicy",
      metadata: inNamespace(layout, name),
      spec,
    },
  });
  const reached = new Set(
    [...plan.services, ...(plan.run === undefined ? [] : [plan.run.workload])].flatMap(({ reaches }) => reaches),
  );
  return [
    policy("deny-by-default", { podSelector: {}, policyTypes: ["Ingress", "Egress"] }),
    policy("dns", { podSelector: {}, policyTypes: ["Egress"], egress: [DNS] }),
    policy("internet", {
      podSelector: reaching("internet"),
      policyTypes: ["Egress"],
      egress: [{ to: [INTERNET], ports: [tcp(443), tcp(80)] }],
    }),
    policy("git", {
      podSelector: reaching("git"),
      policyTypes: ["Egress"],
      egress: [{ to: [INTERNET], ports: [tcp(22), tcp(9418)] }],
    }),
    ...(Object.keys(layout.identities).length === 0 ? [] : [policy("cloud", CLOUD)]),
    ...(plan.services.some(({ submits }) => submits !== undefined)
      ? [policy("kubernetes", { podSelector: reaching("kubernetes"), policyTypes: ["Egress"], egress: [API_SERVER] })]
      : []),
    ...runPolicy(plan, layout).map((spec) => policy("run", spec)),
    ...plan.services
      .filter(({ name, ports }) => reached.has(name) && ports.length > 0)
      .flatMap((service) => [
        policy(`to-${service.name}`, reachedPolicy(service, layout)),
        policy(`reaches-${service.name}`, reachingPolicy(service, layout)),
      ]),
    ...plan.services.flatMap((service) =>
      metricsPolicies(service, layout).map((spec) => policy(`metrics-${service.name}`, spec)),
    ),
  ];
}

const DNS = {
  to: ["kube-dns", "node-local-dns"].map((name) => ({
    namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "kube-system" } },
    podSelector: { matchLabels: { "k8s-app": name } },
  })),
  ports: [udp(53), tcp(53)],
};

/**
 * GKE's metadata server, which gives a pod the token of its account, on the address of the data plane that the cluster
 * has, and Google's services: https://cloud.google.com/kubernetes-engine/docs/how-to/network-policy.
 */
const CLOUD: NetworkPolicyObject["spec"] = {
  podSelector: reaching(CLOUD_PEER),
  policyTypes: ["Egress"],
  egress: [
    { to: [{ ipBlock: { cidr: "169.254.169.254/32" } }], ports: [tcp(80)] },
    { to: [{ ipBlock: { cidr: "169.254.169.252/32" } }], ports: [tcp(988)] },
    { to: [INTERNET], ports: [tcp(443)] },
  ],
};

/** Behind the address that pods know are the control plane's own, which no policy can name; they answer on these ports. */
const API_SERVER = {
  to: [INTERNET, ...NETWORKS.map((cidr) => ({ ipBlock: { cidr } }))],
  ports: [tcp(443), tcp(6443)],
};

function reaching(peer: string) {
  return { matchLabels: { [`${LABELS.reaches}/${peer}`]: "true" } };
}

/** The nodes of a run talk to each other on ports that NCCL and gloo choose. */
function runPolicy({ run }: Plan, layout: ClusterLayout): readonly NetworkPolicyObject["spec"][] {
  if (run === undefined) return [];
  const pods = { podSelector: { matchLabels: { ...labelsOf(layout, run.workload.name), [LABELS.run]: run.run } } };
  return [{ ...pods, policyTypes: ["Ingress", "Egress"], ingress: [{ from: [pods] }], egress: [{ to: [pods] }] }];
}

/** A service takes what comes from those that say that they reach it. */
function reachedPolicy({ name, ports }: Workload, layout: ClusterLayout): NetworkPolicyObject["spec"] {
  return {
    podSelector: { matchLabels: labelsOf(layout, name) },
    policyTypes: ["Ingress"],
    ingress: [{ from: [{ podSelector: reaching(name) }], ports: ports.map(({ container }) => tcp(container)) }],
  };
}

function reachingPolicy({ name, ports }: Workload, layout: ClusterLayout): NetworkPolicyObject["spec"] {
  return {
    podSelector: reaching(name),
    policyTypes: ["Egress"],
    egress: [
      {
        to: [{ podSelector: { matchLabels: labelsOf(layout, name) } }],
        ports: ports.map(({ container }) => tcp(container)),
      },
    ],
  };
}

function metricsPolicies(
  { name, ports, browse }: Workload,
  layout: ClusterLayout,
): readonly NetworkPolicyObject["spec"][] {
  if (layout.metricsFrom === undefined || browse !== "/metrics") return [];
  return [
    {
      podSelector: { matchLabels: labelsOf(layout, name) },
      policyTypes: ["Ingress"],
      ingress: [
        {
          from: [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": layout.metricsFrom } } }],
          ports: ports.map(({ container }) => tcp(container)),
        },
      ],
    },
  ];
}
