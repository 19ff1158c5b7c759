import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments, stringify } from "yaml";
import { z } from "zod";
import type { ControlPlane } from "../../../offline/control-plane.ts";
import { freePorts } from "../../lib/ports.ts";
import { type Access, Api, ApiError, type KubernetesObject } from "./api.ts";
import { kubeletAnswers } from "./kubelet.ts";
import { Processes } from "./processes.ts";
import { STAGES } from "./stages.ts";
import { until } from "./until.ts";

const LOOPBACK = "127.0.0.1";
/** A client of the control plane may ask as often as it likes: the tests measure something else. */
const CLIENT_RATE = ["--kube-api-qps=2000", "--kube-api-burst=4000"];

/** A running control plane, and how to reach it. */
export interface Cluster {
  readonly access: Access;
  readonly kubeconfig: string;
  /** What every container has printed; `printed` of lib/kubelet.ts makes a line of it. */
  readonly podLog: string;
  readonly processes: Processes;
  readonly stop: () => Promise<void>;
}

/**
 * Starts etcd, the API server, its controllers and scheduler, JobSet, Kubeflow Trainer, Kueue and KWOK on loopback ports,
 * with data in a temporary folder: 15 s. Pods run nowhere; KWOK says of them what a kubelet would, and answers for it.
 */
export async function startCluster(built: ControlPlane): Promise<Cluster> {
  const processes = await Processes.make();
  const stop = () => processes.stop();
  try {
    const access = await startApiServer(built, processes);
    const kubeconfig = writeKubeconfig(processes.folder, access);
    const podLog = join(processes.folder, "pod.log");
    writeFileSync(podLog, "");
    startControllers(built, processes, kubeconfig);
    const port = access.kubelet;
    startKwok(built, processes, { kubeconfig, port }, kubeletAnswers(port, podLog));
    const api = new Api(access);
    // Each looks at its start for the definitions of those before it.
    await startJobSet(built, processes, kubeconfig, api);
    await startTrainer(built, processes, kubeconfig, api);
    await startKueue(built, processes, kubeconfig, api);
    api.close();
    return { access, kubeconfig, podLog, processes, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startApiServer({ programs }: ControlPlane, processes: Processes): Promise<Access> {
  const { folder } = processes;
  const [client = 0, peer = 0, secure = 0, kubelet = 0] = await freePorts(4);
  const [clientUrl, peerUrl] = [`http://${LOOPBACK}:${client}`, `http://${LOOPBACK}:${peer}`];
  processes.start("etcd", programs.etcd, [
    `--data-dir=${join(folder, "etcd")}`,
    `--listen-client-urls=${clientUrl}`,
    `--advertise-client-urls=${clientUrl}`,
    `--listen-peer-urls=${peerUrl}`,
    `--initial-advertise-peer-urls=${peerUrl}`,
    `--initial-cluster=default=${peerUrl}`,
    "--unsafe-no-fsync",
    "--quota-backend-bytes=4294967296",
  ]);
  const token = randomBytes(24).toString("hex");
  const tokens = join(folder, "tokens.csv");
  writeFileSync(tokens, `${token},admin,admin,"system:masters"\n`, { mode: 0o600 });
  const keys = join(folder, "service-accounts.pem");
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  writeFileSync(keys, privateKey.export({ type: "sec1", format: "pem" }), { mode: 0o600 });
  const certificates = join(folder, "certificates");
  processes.start("kube-apiserver", programs["kube-apiserver"], [
    `--etcd-servers=${clientUrl}`,
    `--bind-address=${LOOPBACK}`,
    `--advertise-address=${LOOPBACK}`,
    `--secure-port=${secure}`,
    `--cert-dir=${certificates}`,
    `--token-auth-file=${tokens}`,
    "--authorization-mode=RBAC",
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-signing-key-file=${keys}`,
    `--service-account-key-file=${keys}`,
    "--service-cluster-ip-range=10.96.0.0/16",
    // The address of this server is a loopback address, which no Endpoints may hold.
    "--endpoint-reconciler-type=none",
  ]);
  // It makes itself a certificate for its address before it listens.
  const certificate = join(certificates, "apiserver.crt");
  const read = () => ({
    address: `https://${LOOPBACK}:${secure}`,
    authority: readFileSync(certificate, "utf8"),
    token,
    kubelet,
  });
  await processes.until("kube-apiserver", async () => {
    const api = new Api(read());
    try {
      return (await api.call("GET", "/readyz")).body === "ok";
    } finally {
      api.close();
    }
  });
  return read();
}

function writeKubeconfig(folder: string, { address, authority, token }: Access): string {
  const path = join(folder, "kubeconfig.yaml");
  const text = stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: "test",
        cluster: { server: address, "certificate-authority-data": Buffer.from(authority).toString("base64") },
      },
    ],
    users: [{ name: "admin", user: { token } }],
    contexts: [{ name: "test", context: { cluster: "test", user: "admin" } }],
    "current-context": "test",
  });
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

function startControllers({ programs }: ControlPlane, processes: Processes, kubeconfig: string): void {
  const { folder } = processes;
  processes.start("kube-controller-manager", programs["kube-controller-manager"], [
    `--kubeconfig=${kubeconfig}`,
    `--service-account-private-key-file=${join(folder, "service-accounts.pem")}`,
    "--leader-elect=false",
    "--secure-port=0",
    "--concurrent-job-syncs=20",
    ...CLIENT_RATE,
  ]);
  processes.start("kube-scheduler", programs["kube-scheduler"], [
    `--kubeconfig=${kubeconfig}`,
    "--leader-elect=false",
    "--secure-port=0",
    ...CLIENT_RATE,
  ]);
}

/** Its address is the kubelets' of all nodes. */
function startKwok(
  { programs }: ControlPlane,
  processes: Processes,
  { kubeconfig, port }: { readonly kubeconfig: string; readonly port: number },
  answers: string,
): void {
  const config = join(processes.folder, "kwok.yaml");
  writeFileSync(config, [...STAGES.map((stage) => stringify(stage)), answers].join("---\n"));
  processes.start("kwok", programs.kwok, [
    `--kubeconfig=${kubeconfig}`,
    `--config=${config}`,
    "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
    "--node-lease-duration-seconds=40",
    `--server-address=${LOOPBACK}:${port}`,
  ]);
}

async function startJobSet(
  { programs, manifests }: ControlPlane,
  processes: Processes,
  kubeconfig: string,
  api: Api,
): Promise<void> {
  const [webhook = 0, health = 0] = await freePorts(2);
  const folder = join(processes.folder, "jobset");
  const certificates = join(folder, "certificates");
  shareCertificate(processes, certificates);
  const config = join(folder, "config.yaml");
  writeFileSync(
    config,
    stringify({
      apiVersion: "config.jobset.x-k8s.io/v1alpha1",
      kind: "Configuration",
      leaderElection: { leaderElect: false },
      internalCertManagement: { enable: false },
      webhook: { host: LOOPBACK, port: webhook, certDir: certificates },
      metrics: { bindAddress: "0", certDir: certificates },
      health: { healthProbeBindAddress: `${LOOPBACK}:${health}` },
    }),
  );
  await install(api, manifests.jobset, sharedWebhook(api, webhook));
  processes.start("jobset", programs.jobset, [`--config=${config}`, `--kubeconfig=${kubeconfig}`]);
  await processes.until("jobset", () => answers(health));
}

async function startTrainer(
  { programs, manifests }: ControlPlane,
  processes: Processes,
  kubeconfig: string,
  api: Api,
): Promise<void> {
  const [webhook = 0, health = 0] = await freePorts(2);
  const folder = join(processes.folder, "trainer");
  // It looks for its certificate in the folder of temporary files and nowhere else.
  shareCertificate(processes, join(folder, "k8s-webhook-server", "serving-certs"));
  const config = join(folder, "config.yaml");
  writeFileSync(
    config,
    stringify({
      apiVersion: "config.trainer.kubeflow.org/v1alpha1",
      kind: "Configuration",
      leaderElection: { leaderElect: false },
      certManagement: { enable: false },
      webhook: { host: LOOPBACK, port: webhook },
      metrics: { bindAddress: "0" },
      health: { healthProbeBindAddress: `${LOOPBACK}:${health}` },
      clientConnection: { qps: 500, burst: 1000 },
    }),
  );
  await install(api, manifests.trainer, sharedWebhook(api, webhook));
  processes.start("trainer", programs.trainer, [`--config=${config}`, `--kubeconfig=${kubeconfig}`], {
    TMPDIR: folder,
  });
  await processes.until("trainer", () => answers(health));
}

/** The API server's own certificate for a webhook: both are asked at the same address. */
function shareCertificate(processes: Processes, folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const [own, served] of [
    ["apiserver.crt", "tls.crt"],
    ["apiserver.key", "tls.key"],
  ] as const) {
    writeFileSync(join(folder, served), readFileSync(join(processes.folder, "certificates", own)), { mode: 0o600 });
  }
}

function sharedWebhook(api: Api, port: number): (client: ClientConfig) => ClientConfig {
  const caBundle = Buffer.from(api.access.authority).toString("base64");
  return (client) => ({ url: `https://${LOOPBACK}:${port}${client.service?.path ?? ""}`, caBundle });
}

async function startKueue(
  { programs, manifests }: ControlPlane,
  processes: Processes,
  kubeconfig: string,
  api: Api,
): Promise<void> {
  const [webhook = 0, health = 0] = await freePorts(2);
  const folder = join(processes.folder, "kueue");
  const certificates = join(folder, "certificates");
  mkdirSync(certificates, { recursive: true });
  const config = join(folder, "config.yaml");
  writeFileSync(
    config,
    stringify({
      apiVersion: "config.kueue.x-k8s.io/v1beta2",
      kind: "Configuration",
      namespace: KUEUE,
      leaderElection: { leaderElect: false },
      internalCertManagement: { enable: true, webhookServiceName: KUEUE_SERVICE, webhookSecretName: KUEUE_SECRET },
      webhook: { host: LOOPBACK, port: webhook, certDir: certificates },
      metrics: { bindAddress: "0" },
      health: { healthProbeBindAddress: `${LOOPBACK}:${health}` },
      clientConnection: { qps: 500, burst: 1000 },
      integrations: { frameworks: ["batch/job", "jobset.x-k8s.io/jobset", "trainer.kubeflow.org/trainjob"] },
      // Its server has a fixed port.
      featureGates: { VisibilityOnDemand: false },
    }),
  );
  await install(api, manifests.kueue, (client) => ({ ...client, service: { ...client.service, port: webhook } }));
  processes.start("kueue", programs.kueue, [`--config=${config}`, `--kubeconfig=${kubeconfig}`]);
  await mountSecret(processes, api, certificates);
  await processes.until("kueue", () => answers(health));
}

const KUEUE = "kueue-system";
const KUEUE_SERVICE = "kueue-webhook-service";
const KUEUE_SECRET = "kueue-webhook-server-cert";
const secretSchema = z.object({ data: z.object({ "tls.crt": z.string() }).catchall(z.string()) });

/** Kueue writes its certificates into a secret and waits for a kubelet to put them into its folder. */
async function mountSecret(processes: Processes, api: Api, folder: string): Promise<void> {
  await processes.until("kueue", async () => {
    const secret = secretSchema.parse(await api.get({ apiVersion: "v1", kind: "Secret" }, KUEUE_SECRET, KUEUE));
    for (const [name, value] of Object.entries(secret.data)) {
      writeFileSync(join(folder, name), Buffer.from(value, "base64"), { mode: 0o600 });
    }
    return true;
  });
}

async function answers(port: number): Promise<boolean> {
  return (await fetch(`http://${LOOPBACK}:${port}/readyz`)).ok;
}

interface ClientConfig {
  readonly service?: { readonly path?: string; readonly port?: number };
  readonly caBundle?: string;
}

const clientSchema = z.looseObject({ service: z.looseObject({ path: z.string().optional() }).optional() });
const webhooksSchema = z.looseObject({ webhooks: z.array(z.looseObject({ clientConfig: clientSchema })) });
const definedSchema = z.object({
  spec: z.object({
    group: z.string(),
    names: z.object({ plural: z.string() }),
    versions: z.array(z.object({ name: z.string(), served: z.boolean() })),
  }),
});
const resourcesSchema = z.object({ resources: z.array(z.object({ name: z.string() })) });

const conversionSchema = z.looseObject({
  spec: z.looseObject({
    conversion: z.looseObject({ webhook: z.looseObject({ clientConfig: clientSchema }).optional() }).optional(),
  }),
});

/**
 * Applies what a controller's release installs, with two changes, since the controller runs beside the cluster: its
 * webhooks are asked on this machine, and neither its Deployment nor its aggregated API is made.
 */
async function install(api: Api, manifest: string, reached: (client: ClientConfig) => ClientConfig): Promise<void> {
  const documents = parseAllDocuments(readFileSync(manifest, "utf8")).map((one) => one.toJS() as KubernetesObject);
  const rank = (kind: string) => ["Namespace", "CustomResourceDefinition"].indexOf(kind) >>> 0;
  const ordered = [...documents].sort((a, b) => rank(a.kind) - rank(b.kind));
  const early = ordered.filter(({ kind }) => rank(kind) < 2);
  const late = ordered.filter(({ kind }) => rank(kind) >= 2);
  for (const one of early) await api.apply(adapted(one, reached), "installer");
  await Promise.all(early.filter(({ kind }) => kind === "CustomResourceDefinition").map((one) => served(api, one)));
  await Promise.all(
    late.map(async (one) => LEFT_OUT.has(one.kind) || (await api.apply(adapted(one, reached), "installer"))),
  );
}

/** A definition is there before what it defines is: controllers that look in between end at their start. */
async function served(api: Api, definition: KubernetesObject): Promise<void> {
  const { group, names, versions } = definedSchema.parse(definition).spec;
  for (const version of versions.filter((one) => one.served)) {
    await until(`${names.plural}.${group}/${version.name} is served`, async () => {
      const answer = await api.call("GET", `/apis/${group}/${version.name}`).catch((error: unknown) => {
        if (error instanceof ApiError && error.status === 404) return undefined;
        throw error;
      });
      const known = resourcesSchema.safeParse(answer?.body).data?.resources ?? [];
      return known.some(({ name }) => name === names.plural) ? true : undefined;
    });
  }
}

const LEFT_OUT: ReadonlySet<string> = new Set(["Deployment", "APIService"]);

function adapted(one: KubernetesObject, reached: (client: ClientConfig) => ClientConfig): KubernetesObject {
  switch (one.kind) {
    case "MutatingWebhookConfiguration":
    case "ValidatingWebhookConfiguration": {
      const { webhooks } = webhooksSchema.parse(one);
      return {
        ...one,
        webhooks: webhooks.map((hook) => ({ ...hook, clientConfig: reached(clientOf(hook.clientConfig)) })),
      };
    }
    case "CustomResourceDefinition": {
      const { spec } = conversionSchema.parse(one);
      const webhook = spec.conversion?.webhook;
      if (webhook === undefined) return one;
      const clientConfig = reached(clientOf(webhook.clientConfig));
      return { ...one, spec: { ...spec, conversion: { ...spec.conversion, webhook: { ...webhook, clientConfig } } } };
    }
    case "Service":
      // The name stays, for the certificate is made out to it; it leads to this machine.
      return { ...one, spec: { type: "ExternalName", externalName: "localhost" } };
    default:
      return one;
  }
}

function clientOf(client: z.infer<typeof clientSchema>): ClientConfig {
  return client as ClientConfig;
}
