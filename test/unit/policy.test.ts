import { describe, expect, test } from "vitest";
import { RULES, violations } from "../../policy/index.ts";
import { isPlainSecret, MASKED, UNKNOWN } from "../../policy/secrets.ts";
import type { PreviewedResource } from "../../policy/types.ts";

function resource(type: string, inputs: object, more: Partial<PreviewedResource> = {}): PreviewedResource {
  const plain = { operation: "create", before: undefined, retainOnDelete: false, protect: false } as const;
  return { name: "x", type, inputs: { ...inputs }, ...plain, ...more };
}

const CONTAINER = "docker:index/container:Container";
const FIREWALL = "gcp:compute/firewall:Firewall";
const TEMPLATE = "gcp:compute/instanceTemplate:InstanceTemplate";
const SSH = [{ protocol: "tcp", ports: ["22"] }];
const BUDGET = resource("gcp:billing/budget:Budget", {}, { name: "budget" });
const deleted = { operation: "delete" } as const;
const CLOSED = { uniformBucketLevelAccess: true, publicAccessPrevention: "enforced" };
const OWN = "tunestack-prod@team-ml.iam.gserviceaccount.com";
const CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform";
const NODES = "gcp:container/nodePool:NodePool";
const CLUSTER = "gcp:container/cluster:Cluster";
const BY_NAME = {
  removeDefaultNodePool: true,
  privateClusterConfig: { enablePrivateNodes: true },
  controlPlaneEndpointsConfig: { ipEndpointsConfig: { enabled: false } },
};
const SERVICE = "kubernetes:core/v1:Service";
const CLUSTER_PROVIDER = "pulumi:providers:kubernetes";
const GRANT = "gcp:projects/iAMMember:IAMMember";

type Fixture = readonly [string, readonly PreviewedResource[]];

/** For each rule what it lets pass, and what it does not. */
const FIXTURES: Readonly<Record<string, { readonly passes: readonly Fixture[]; readonly fails: readonly Fixture[] }>> =
  {
    "public-exposure": {
      passes: [
        [
          "a port on the loopback address",
          [resource(CONTAINER, { ports: [{ internal: 1, external: 1, ip: "127.0.0.1" }] })],
        ],
        ["a container without ports", [resource(CONTAINER, {})]],
        ["an open port that goes away", [resource(CONTAINER, { ports: [{ internal: 1 }] }, deleted)]],
        ["a firewall for IAP", [resource(FIREWALL, { allows: SSH, sourceRanges: ["35.235.240.0/20"] })]],
        ["a firewall between tagged machines", [resource(FIREWALL, { allows: SSH, sourceTags: ["a"] })]],
        [
          "a firewall that denies",
          [resource(FIREWALL, { denies: [{ protocol: "all" }], sourceRanges: ["0.0.0.0/0"] })],
        ],
        ["a firewall for the way out", [resource(FIREWALL, { allows: SSH, direction: "EGRESS" })]],
        ["a cluster by IAM's endpoint alone", [resource(CLUSTER, BY_NAME)]],
        [
          "a cluster in its network alone",
          [
            resource(CLUSTER, {
              removeDefaultNodePool: true,
              privateClusterConfig: { enablePrivateNodes: true, enablePrivateEndpoint: true },
            }),
          ],
        ],
        [
          "a cluster for a few addresses",
          [
            resource(CLUSTER, {
              removeDefaultNodePool: true,
              privateClusterConfig: { enablePrivateNodes: true },
              masterAuthorizedNetworksConfig: { cidrBlocks: [{ cidrBlock: "192.0.2.7/32" }] },
            }),
          ],
        ],
        ["a service within a cluster", [resource(SERVICE, { spec: { type: "ClusterIP" } })]],
        ["a machine without public address", [resource(TEMPLATE, { networkInterfaces: [{ subnetwork: "s" }] })]],
      ],
      fails: [
        ["a port on every address", [resource(CONTAINER, { ports: [{ internal: 1, external: 1, ip: "0.0.0.0" }] })]],
        ["a port without address", [resource(CONTAINER, { ports: [{ internal: 1, external: 1 }] })]],
        ["the host's network", [resource(CONTAINER, { networkMode: "host" })]],
        ["a firewall open to all", [resource(FIREWALL, { allows: SSH, sourceRanges: ["10.0.0.0/8", "0.0.0.0/0"] })]],
        ["a firewall open to all of IPv6", [resource(FIREWALL, { allows: SSH, sourceRanges: ["::/0"] })]],
        ["a firewall without source", [resource(FIREWALL, { allows: SSH })]],
        ["a cluster of public nodes", [resource(CLUSTER, { ...BY_NAME, privateClusterConfig: {} })]],
        [
          "a cluster for everybody",
          [resource(CLUSTER, { ...BY_NAME, controlPlaneEndpointsConfig: { ipEndpointsConfig: { enabled: true } } })],
        ],
        [
          "a cluster for all addresses",
          [
            resource(CLUSTER, {
              removeDefaultNodePool: true,
              privateClusterConfig: { enablePrivateNodes: true },
              masterAuthorizedNetworksConfig: { cidrBlocks: [{ cidrBlock: "0.0.0.0/0" }] },
            }),
          ],
        ],
        ["a service behind a load balancer", [resource(SERVICE, { spec: { type: "LoadBalancer" } })]],
        ["a service on every node's port", [resource(SERVICE, { spec: { type: "NodePort" } })]],
        ["an ingress", [resource("kubernetes:networking.k8s.io/v1:Ingress", {})]],
        ["a public address", [resource(TEMPLATE, { networkInterfaces: [{ accessConfigs: [{}] }] })]],
      ],
    },
    "plain-secrets": {
      passes: [
        ["a masked secret", [resource("gcp:secretmanager/secretVersion:SecretVersion", { secretData: MASKED })]],
        [
          "a file that holds one",
          [resource(CONTAINER, { envs: ["HF_TOKEN_FILE=/run/secrets/hf-token", "TOKEN=/run/x"] })],
        ],
        ["the name of a tokenizer", [resource(CONTAINER, { envs: ["TOKENIZER=gemma", "MAX_TOKENS=12"] })]],
        ["where a kubeconfig is", [resource(CLUSTER_PROVIDER, { kubeconfig: "kube/team.yaml" })]],
        ["a secret's name", [resource("gcp:secretmanager/secret:Secret", { secretId: "tunestack-hf-token" })]],
      ],
      fails: [
        ["a token in the environment", [resource(CONTAINER, { envs: ["A=1", "HF_TOKEN=abc"] })]],
        ["a password", [resource("gcp:sql/user:User", { password: "abc" })]],
        [
          "a plain version of a secret",
          [resource("gcp:secretmanager/secretVersion:SecretVersion", { secretData: "abc" })],
        ],
        ["a token by its form", [resource(CONTAINER, { command: ["--with", `hf_${"a".repeat(34)}`] })]],
        ["a kubeconfig itself", [resource(CLUSTER_PROVIDER, { kubeconfig: '{"apiVersion":"v1","kind":"Config"}' })]],
        ["a password in an address", [resource(CONTAINER, { envs: ["REMOTE=https://me:abc@host/x.git"] })]],
      ],
    },
    "broad-identity": {
      passes: [
        ["an account of its own", [resource(TEMPLATE, { serviceAccount: { email: OWN, scopes: [CLOUD_PLATFORM] } })]],
        ["an account that is made with it", [resource(TEMPLATE, { serviceAccount: { email: UNKNOWN } })]],
        ["a machine without any account", [resource(TEMPLATE, {})]],
        [
          "a role for what is done",
          [resource(GRANT, { role: "roles/logging.logWriter", member: `serviceAccount:${OWN}` })],
        ],
        ["nodes with their own account", [resource(NODES, { nodeConfig: { serviceAccount: OWN } })]],
        ["a grant that goes", [resource(GRANT, { role: "roles/owner", member: "allUsers" }, deleted)]],
      ],
      fails: [
        ["a nameless account", [resource(TEMPLATE, { serviceAccount: { scopes: [CLOUD_PLATFORM] } })]],
        [
          "the default account",
          [resource(TEMPLATE, { serviceAccount: { email: "123-compute@developer.gserviceaccount.com" } })],
        ],
        ["nodes with the default account", [resource(NODES, { nodeConfig: { serviceAccount: "default" } })]],
        ["nodes that name none", [resource(NODES, { nodeConfig: {} })]],
        [
          "a notebook's schedule with the default account",
          [
            resource("gcp:colab/schedule:Schedule", {
              createNotebookExecutionJobRequest: {
                notebookExecutionJob: { serviceAccount: "123-compute@developer.gserviceaccount.com" },
              },
            }),
          ],
        ],
        [
          "a broad scope",
          [
            resource(TEMPLATE, {
              serviceAccount: { email: OWN, scopes: ["https://www.googleapis.com/auth/devstorage.full_control"] },
            }),
          ],
        ],
        ["a role over the project", [resource(GRANT, { role: "roles/editor", member: `serviceAccount:${OWN}` })]],
        [
          "a bucket for everybody",
          [
            resource("gcp:storage/bucketIAMMember:BucketIAMMember", {
              role: "roles/storage.objectViewer",
              member: "allUsers",
            }),
          ],
        ],
        [
          "a binding for everybody",
          [
            resource("gcp:storage/bucketIAMBinding:BucketIAMBinding", {
              role: "roles/storage.objectViewer",
              members: ["user:me@example.com", "allAuthenticatedUsers"],
            }),
          ],
        ],
      ],
    },
    "open-bucket": {
      passes: [
        ["a closed bucket", [resource("gcp:storage/bucket:Bucket", CLOSED)]],
        ["an open one that goes", [resource("gcp:storage/bucket:Bucket", {}, { ...deleted, retainOnDelete: true })]],
      ],
      fails: [
        [
          "access object by object",
          [resource("gcp:storage/bucket:Bucket", { ...CLOSED, uniformBucketLevelAccess: false })],
        ],
        ["public access", [resource("gcp:storage/bucket:Bucket", { ...CLOSED, publicAccessPrevention: "inherited" })]],
        ["a list of readers", [resource("gcp:storage/bucketACL:BucketACL", {})]],
      ],
    },
    "unprotected-data": {
      passes: [
        ["a new bucket", [resource("gcp:storage/bucket:Bucket", CLOSED)]],
        ["a disk that is kept", [resource("gcp:compute/disk:Disk", {}, { ...deleted, retainOnDelete: true })]],
        ["a container that goes", [resource(CONTAINER, {}, deleted)]],
      ],
      fails: [
        ["a volume that is deleted", [resource("docker:index/volume:Volume", {}, deleted)]],
        ["a disk that is replaced", [resource("gcp:compute/disk:Disk", {}, { operation: "replace" })]],
        ["a bucket that is deleted", [resource("gcp:storage/bucket:Bucket", {}, deleted)]],
      ],
    },
    "gpu-without-budget": {
      passes: [
        ["a GPU with a budget", [resource(TEMPLATE, { machineType: "g2-standard-8" }), BUDGET]],
        ["a machine without GPU", [resource(TEMPLATE, { machineType: "n1-standard-8", guestAccelerators: [] })]],
        ["a GPU that goes", [resource(TEMPLATE, { machineType: "g2-standard-8" }, deleted)]],
        ["a GPU of one's own", [resource(CONTAINER, { gpus: "all" })]],
      ],
      fails: [
        ["a machine type with a GPU", [resource(TEMPLATE, { machineType: "a2-highgpu-1g" })]],
        ["an attached GPU", [resource(TEMPLATE, { machineType: "n1-standard-8", guestAccelerators: [{ count: 1 }] })]],
        ["a budget that goes", [resource(TEMPLATE, { machineType: "g2-standard-8" }), { ...BUDGET, ...deleted }]],
        [
          "a node pool",
          [
            resource("gcp:container/nodePool:NodePool", {
              nodeConfig: { guestAccelerators: [{ type: "nvidia-l4" }], serviceAccount: OWN },
            }),
          ],
        ],
      ],
    },
  };

test("every rule has fixtures", () => {
  expect(RULES.map(({ name }) => name).sort()).toEqual(Object.keys(FIXTURES).sort());
});

describe.each(Object.entries(FIXTURES))("%s", (rule, { passes, fails }) => {
  test.each(passes)("lets %s pass", (_title, resources) => {
    expect(violations(resources)).toEqual([]);
  });
  test.each(fails)("does not let %s pass", (_title, resources) => {
    const found = violations(resources);
    expect(found.map((violation) => violation.rule)).toEqual([rule]);
    expect(found[0]?.remedy).not.toBe("");
  });
});

test("a violation never tells the secret itself", () => {
  const found = violations([resource(CONTAINER, { envs: ["HF_TOKEN=topsecret"], command: [`ghp_${"b".repeat(36)}`] })]);
  expect(found.map(({ path }) => path)).toEqual(["x: command[0]", "x: envs[0]"]);
  expect(JSON.stringify(found)).not.toMatch(/topsecret|bbbb/);
});

test("what is known only later is no plain secret", () => {
  expect(isPlainSecret("password", UNKNOWN)).toBe(false);
  expect(isPlainSecret("password", "")).toBe(false);
  expect(isPlainSecret("settings.password", "p")).toBe(true);
});
