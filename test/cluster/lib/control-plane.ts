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

/** How long a node's lease is good, in seconds; it is renewed four times as often. Nodes are lost by being removed. */
const LEASE_SECONDS = 200;

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
    const start = { built, processes, kubeconfig, api };
    await startJobSet(start);
    await startTrainer(start);
    await startKueue(start);
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
    `--node-monitor-grace-period=${LEASE_SECONDS}s`,
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
    `--node-lease-duration-seconds=${LEASE_SECONDS}`,
    `--server-address=${LOOPBACK}:${port}`,
  ]);
}

/** What a controller is started with: all have a file of settings, webhooks and a health probe. */
interface Start {
  readonly built: ControlPlane;
  readonly processes: Processes;
  readonly kubeconfig: string;
  readonly api: Api;
}

interface Controller {
  readonly name: "jobset" | "trainer" | "kueue";
  /** Its settings beside those that all have. */
  readonly settings: (webhook: { readonly host: string; readonly port: number }) => object;
  readonly reached: (port: number) => (client: ClientConfig) => ClientConfig;
  readonly environment?: Readonly<Record<string, string>>;
  /** What it waits for at its start. */
  readonly meanwhile?: () => Promise<void>;
}

async function startController(
  { built: { programs, manifests }, processes, kubeconfig, api }: Start,
  { name, settings, reached, environment, meanwhile }: Controller,
): Promise<void> {
  const [port = 0, health = 0] = await freePorts(2);
  const config = join(processes.folder, name, "config.yaml");
  writeFileSync(
    config,
    stringify({
      kind: "Configuration",
      leaderElection: { leaderElect: false },
      metrics: { bindAddress: "0" },
      health: { healthProbeBindAddress: `${LOOPBACK}:${health}` },
      ...settings({ host: LOOPBACK, port }),
    }),
  );
  await install(api, manifests[name], reached(port));
  processes.start(name, programs[name], [`--config=${config}`, `--kubeconfig=${kubeconfig}`], environment);
  await meanwhile?.();
  await processes.until(name, () => answers(health));
}

async function startJobSet(start: Start): Promise<void> {
  const certDir = join(start.processes.folder, "jobset", "certificates");
  shareCertificate(start.processes, certDir);
  await startController(start, {
    name: "jobset",
    settings: (webhook) => ({
      apiVersion: "config.jobset.x-k8s.io/v1alpha1",
      internalCertManagement: { enable: false },
      webhook: { ...webhook, certDir },
      metrics: { bindAddress: "0", certDir },
    }),
    reached: sharedWebhook(start.api),
  });
}

async function startTrainer(start: Start): Promise<void> {
  const folder = join(start.processes.folder, "trainer");
  // It looks for its certificate in the folder of temporary files and nowhere else.
  shareCertificate(start.processes, join(folder, "k8s-webhook-server", "serving-certs"));
  await startController(start, {
    name: "trainer",
    settings: (webhook) => ({
      apiVersion: "config.trainer.kubeflow.org/v1alpha1",
      certManagement: { enable: false },
      webhook,
      clientConnection: { qps: 500, burst: 1000 },
    }),
    reached: sharedWebhook(start.api),
    environment: { TMPDIR: folder },
  });
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

function sharedWebhook(api: Api): Controller["reached"] {
  const caBundle = Buffer.from(api.access.authority).toString("base64");
  return (port) => (client) => ({ url: `https://${LOOPBACK}:${port}${client.service?.path ?? ""}`, caBundle });
}

async function startKueue(start: Start): Promise<void> {
  const certDir = join(start.processes.folder, "kueue", "certificates");
  mkdirSync(certDir, { recursive: true });
  await startController(start, {
    name: "kueue",
    settings: (webhook) => ({
      apiVersion: "config.kueue.x-k8s.io/v1beta2",
      namespace: KUEUE,
      internalCertManagement: { enable: true, webhookServiceName: KUEUE_SERVICE, webhookSecretName: KUEUE_SECRET },
      webhook: { ...webhook, certDir },
      clientConnection: { qps: 500, burst: 1000 },
      integrations: { frameworks: ["batch/job", "jobset.x-k8s.io/jobset", "trainer.kubeflow.org/trainjob"] },
      // Its server has a fixed port.
      featureGates: { VisibilityOnDemand: false },
    }),
    reached: (port) => (client) => ({ ...client, service: { ...client.service, port } }),
    meanwhile: () => mountSecret(start.processes, start.api, certDir),
  });
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
