import * as pulumi from "@pulumi/pulumi";

/** One registration as the engine would get it. */
export interface Registration {
  readonly type: string;
  readonly name: string;
  /** Name of the parent; undefined for what stands at the top. */
  readonly parent: string | undefined;
  readonly inputs: Readonly<Record<string, unknown>>;
  readonly retainOnDelete: boolean;
  readonly deleteBeforeReplace: boolean;
  readonly replaceOnChanges: readonly string[];
  /** Names of what was named as `dependsOn` or whose outputs went in. */
  readonly dependencies: readonly string[];
  /** Name of the provider that was given explicitly. */
  readonly provider: string | undefined;
}

type State = Readonly<Record<string, unknown>>;

/** What a provider would answer; a type that is not here fails the test. */
const ANSWERS: Readonly<Record<string, (name: string, inputs: State) => State>> = {
  "docker:index/network:Network": (_name, inputs) => inputs,
  "docker:index/volume:Volume": (_name, inputs) => inputs,
  "docker:index/container:Container": (_name, inputs) => inputs,
  "docker:index/remoteImage:RemoteImage": (name, inputs) => ({ ...inputs, imageId: `<id of ${name}>` }),
  "docker-build:index:Image": (name, inputs) => ({
    ...inputs,
    digest: `<digest of ${name}>`,
    ref: `<reference of ${name}>`,
  }),
  "pulumi:providers:docker": (_name, inputs) => inputs,
  "pulumi:providers:docker-build": (_name, inputs) => inputs,
  "tunestack:docker:DockerStack": (_name, inputs) => inputs,
  "tunestack:image:TunestackImage": (_name, inputs) => inputs,
  "tunestack:gcp-vm:GcpVmStack": (_name, inputs) => inputs,
  "tunestack:gcp-vm:ColabEnterprise": (_name, inputs) => inputs,
  ...Object.fromEntries(
    [
      "artifactregistry/repository:Repository",
      "artifactregistry/repositoryIamMember:RepositoryIamMember",
      "billing/budget:Budget",
      "colab/runtime:Runtime",
      "colab/runtimeTemplate:RuntimeTemplate",
      "colab/schedule:Schedule",
      "compute/disk:Disk",
      "container/nodePool:NodePool",
      "compute/firewall:Firewall",
      "compute/network:Network",
      "compute/regionInstanceGroupManager:RegionInstanceGroupManager",
      "compute/router:Router",
      "compute/routerNat:RouterNat",
      "compute/subnetwork:Subnetwork",
      "kms/cryptoKeyIAMMember:CryptoKeyIAMMember",
      "projects/iAMCustomRole:IAMCustomRole",
      "projects/iAMMember:IAMMember",
      "projects/service:Service",
      "secretmanager/secret:Secret",
      "secretmanager/secretIamMember:SecretIamMember",
      "secretmanager/secretVersion:SecretVersion",
      "serviceaccount/iAMMember:IAMMember",
      "storage/bucket:Bucket",
      "storage/bucketIAMMember:BucketIAMMember",
    ].map((type) => [`gcp:${type}`, (name: string, inputs: State): State => ({ name, ...inputs })]),
  ),
  ...Object.fromEntries(
    ["GkeStack", "GkeCluster"].map((type) => [
      `tunestack:gke:${type}`,
      (_name: string, inputs: State): State => inputs,
    ]),
  ),
  "tunestack:k8s:ClusterStack": (_name, inputs) => inputs,
  "tunestack:kubernetes:KubernetesStack": (_name, inputs) => inputs,
  "pulumi:providers:kubernetes": (_name, inputs) => inputs,
  "gcp:container/cluster:Cluster": (name, inputs) => ({
    ...inputs,
    controlPlaneEndpointsConfig: { dnsEndpointConfig: { endpoint: `${name}.gke.example` } },
    privateClusterConfig: { privateEndpoint: "10.10.0.2" },
    masterAuth: { clusterCaCertificate: "PGNlcnRpZmljYXRlPg==" },
  }),
  "gcp:projects/serviceIdentity:ServiceIdentity": (_name, inputs) => ({
    ...inputs,
    member: "serviceAccount:service-1234@gcp-sa-aiplatform.iam.gserviceaccount.com",
  }),
  "gcp:storage/bucketObject:BucketObject": (name, inputs) => ({ name, ...inputs, generation: 17 }),
  "gcp:compute/instanceTemplate:InstanceTemplate": (name, inputs) => ({
    ...inputs,
    selfLinkUnique: `<link of ${name}>`,
  }),
  "gcp:serviceaccount/account:Account": (name, inputs) => ({
    ...inputs,
    name: `<name of ${name}>`,
    email: `<email of ${name}>`,
    member: `<member of ${name}>`,
  }),
};

/** Every kind of object is registered as it was rendered; what kinds there are, k8s/ says. */
function answerOf(type: string): ((name: string, inputs: State) => State) | undefined {
  return ANSWERS[type] ?? (type.startsWith("kubernetes:") ? (_name, inputs) => inputs : undefined);
}

/**
 * Runs a program against mocks.
 * @returns its value, and every registration in the order of their names, after all of them have ended.
 * @throws where it registers or calls what has no mock.
 */
export async function recordRegistrations<T>(
  program: () => T | Promise<T>,
): Promise<{ readonly value: T; readonly registrations: readonly Registration[] }> {
  const registrations: Registration[] = [];
  const unmocked: string[] = [];
  await pulumi.runtime.setMocks(
    {
      newResource: ({ type, name, inputs }) => {
        const answer = answerOf(type);
        if (answer === undefined) unmocked.push(`the resource ${type} (${name})`);
        return { id: `${name}-id`, state: answer?.(name, inputs) ?? {} };
      },
      call: ({ token }) => {
        unmocked.push(`the call ${token}`);
        return {};
      },
    },
    "tunestack",
    "dev",
  );
  const monitor = pulumi.runtime.getMonitor();
  if (monitor === undefined) throw new Error("the mocks are not there");
  const register = monitor.registerResource.bind(monitor);
  Object.assign(monitor, {
    registerResource: (request: Request, answer: Parameters<typeof register>[1]) => {
      registrations.push(registrationOf(request));
      return Reflect.apply(register, monitor, [request, answer]);
    },
  });
  const value = await withShortStacks(async () => {
    const result = await program();
    await pulumi.runtime.disconnect();
    return result;
  });
  if (unmocked.length > 0) throw new Error(`no mock for ${unmocked.join(", ")}`);
  const key = ({ name, type }: Registration) => `${name} ${type}`;
  return { value, registrations: registrations.sort((a, b) => (key(a) < key(b) ? -1 : 1)) };
}

/** Pulumi keeps a stack trace of each promise that it makes; mapping them to sources is most of a test's time. */
async function withShortStacks<T>(body: () => Promise<T>): Promise<T> {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 1;
  try {
    return await body();
  } finally {
    Error.stackTraceLimit = limit;
  }
}

/** The part of the engine's request that is looked at. */
interface Request {
  getType(): string;
  getName(): string;
  getParent(): string;
  getObject(): { toJavaScript(): Record<string, unknown> } | undefined;
  getRetainondelete(): boolean;
  getDeletebeforereplace(): boolean;
  getReplaceonchangesList(): string[];
  getDependenciesList(): string[];
  getProvider(): string;
}

function registrationOf(request: Request): Registration {
  return {
    type: request.getType(),
    name: request.getName(),
    parent: nameIn(request.getParent()),
    inputs: request.getObject()?.toJavaScript() ?? {},
    retainOnDelete: request.getRetainondelete(),
    deleteBeforeReplace: request.getDeletebeforereplace(),
    replaceOnChanges: request.getReplaceonchangesList().sort(),
    dependencies: request
      .getDependenciesList()
      .map((urn) => nameIn(urn) ?? urn)
      .sort(),
    provider: nameIn(request.getProvider().replace(/::[^:]*$/, "")),
  };
}

/** The logical name at the end of a URN. */
function nameIn(urn: string): string | undefined {
  return urn === "" ? undefined : urn.split("::").at(-1);
}
