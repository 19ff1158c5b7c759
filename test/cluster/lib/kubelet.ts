import { stringify } from "yaml";

/** The address of all nodes: KWOK answers there as their kubelets do. */
export const KUBELET_ADDRESS = "127.0.0.1";

const JUPYTER_PORT = 8888;

/**
 * What KWOK answers in place of kubelets, whichever pod is asked of. Programs are not run: whoever can reach the port
 * could have them run, for it asks nobody who they are.
 * @param port that KWOK listens on; what is forwarded to Jupyter's port comes out there, too.
 * @param log what every container has printed, in the format of container runtimes (`printed`).
 */
export function kubeletAnswers(port: number, log: string): string {
  const cluster = (kind: string, spec: object) => ({
    apiVersion: "kwok.x-k8s.io/v1alpha1",
    kind,
    metadata: { name: "all" },
    spec,
  });
  return [
    cluster("ClusterLogs", { logs: [{ logsFile: log, follow: true }] }),
    cluster("ClusterPortForward", {
      forwards: [{ ports: [JUPYTER_PORT], target: { address: KUBELET_ADDRESS, port } }],
    }),
  ]
    .map((one) => stringify(one))
    .join("---\n");
}

/** A line as container runtimes write it down. */
export function printed(line: string): string {
  return `${new Date().toISOString()} stdout F ${line}\n`;
}
