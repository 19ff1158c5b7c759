/** How an API server is reached. */
export interface ServerAddress {
  /** Name or address, without `https://`. */
  readonly host: string;
  /** Certificate of its authority in base64; undefined where the world knows it. */
  readonly authority: string | undefined;
}

/** The program that gets a token for whoever is logged in: https://cloud.google.com/kubernetes-engine/docs/how-to/cluster-access-for-kubectl. */
const PLUGIN = "gke-gcloud-auth-plugin";

/** A kubeconfig that holds no token: a program asks for one whenever it is needed. */
export function renderKubeconfig(context: string, { host, authority }: ServerAddress): string {
  return JSON.stringify({
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      {
        name: context,
        cluster: {
          server: `https://${host}`,
          ...(authority === undefined ? {} : { "certificate-authority-data": authority }),
        },
      },
    ],
    users: [
      {
        name: context,
        user: {
          exec: {
            apiVersion: "client.authentication.k8s.io/v1beta1",
            command: PLUGIN,
            installHint: "gcloud components install gke-gcloud-auth-plugin",
            provideClusterInfo: true,
            interactiveMode: "Never",
          },
        },
      },
    ],
    contexts: [{ name: context, context: { cluster: context, user: context } }],
    "current-context": context,
  });
}
