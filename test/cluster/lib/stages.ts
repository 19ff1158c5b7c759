/** On a pod: the exit code that its containers end with. Put on a pod that runs, it ends that pod. */
export const EXIT_ANNOTATION = "test.tunestack.invalid/exit-code";
/** On a pod: how long it runs before it ends, as Go writes durations. Example: `20s`. */
export const AFTER_ANNOTATION = "test.tunestack.invalid/ends-after";

/** Exit code of a run that was told to stop and has saved a checkpoint. */
const STOPPED = 75;

const exists = (key: string) => ({ key, operator: "Exists" });
const absent = (key: string) => ({ key, operator: "DoesNotExist" });
const isOneOf = (key: string, values: readonly string[]) => ({ key, operator: "In", values });
const isNoneOf = (key: string, values: readonly string[]) => ({ key, operator: "NotIn", values });

const DELETED = ".metadata.deletionTimestamp";
const EXIT = `.metadata.annotations["${EXIT_ANNOTATION}"]`;

interface StageParts {
  readonly of?: "Pod" | "Node";
  readonly when: readonly object[];
  readonly delay?: object;
  readonly next: object;
}

function stage(name: string, { of = "Pod", when, delay, next }: StageParts): object {
  return {
    apiVersion: "kwok.x-k8s.io/v1alpha1",
    kind: "Stage",
    metadata: { name },
    spec: {
      resourceRef: { apiGroup: "v1", kind: of },
      selector: { matchExpressions: when },
      ...(delay === undefined ? {} : { delay }),
      next,
    },
  };
}

/**
 * A node says once that it is ready, and its lease that it still is. With leases, KWOK's own stages say it every 20 s, which
 * keeps the API server of a thousand nodes busy.
 */
const READY = `
{{ $now := Now }}
{{ $kwok := printf "kwok-%s" Version }}
phase: Running
conditions:
{{ range NodeConditions }}
- { type: {{ .type }}, status: {{ .status | Quote }}, reason: {{ .reason }}, message: {{ .message | Quote }}, lastHeartbeatTime: {{ $now | Quote }}, lastTransitionTime: {{ $now | Quote }} }
{{ end }}
nodeInfo:
  architecture: amd64
  operatingSystem: linux
  bootID: ""
  containerRuntimeVersion: {{ $kwok }}
  kernelVersion: {{ $kwok }}
  kubeProxyVersion: ""
  kubeletVersion: {{ $kwok }}
  machineID: ""
  osImage: ""
  systemUUID: ""
`;

const RUNNING = `
{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
podIP: {{ PodIPWith .spec.nodeName ( or .spec.hostNetwork false ) ( or .metadata.uid "" ) ( or .metadata.name "" ) ( or .metadata.namespace "" ) | Quote }}
conditions:
{{ range list "Initialized" "ContainersReady" "Ready" }}
- { type: {{ . }}, status: "True", lastTransitionTime: {{ $now | Quote }} }
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  started: true
  restartCount: 0
  state: { running: { startedAt: {{ $now | Quote }} } }
{{ end }}
initContainerStatuses:
{{ range .spec.initContainers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  restartCount: 0
  state: { terminated: { exitCode: 0, reason: Completed, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }} } }
{{ end }}
`;

/** @param code a template's expression for the exit code. */
const ended = (code: string) => `
{{ $now := Now }}
{{ $code := ${code} }}
phase: {{ if eq $code "0" }}Succeeded{{ else }}Failed{{ end }}
conditions:
{{ range list "ContainersReady" "Ready" }}
- { type: {{ . }}, status: "False", reason: PodFailed, lastTransitionTime: {{ $now | Quote }} }
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: false
  started: false
  restartCount: 0
  state: { terminated: { exitCode: {{ $code }}, reason: {{ if eq $code "0" }}Completed{{ else }}Error{{ end }}, startedAt: {{ $now | Quote }}, finishedAt: {{ $now | Quote }} } }
{{ end }}
`;

/**
 * What a kubelet would say of its node and of pods. Training runs until it is told to end, or for as long as its annotation
 * says; asked to stop, it saves and ends with a code of its own. Unlike KWOK's own stages these leave finalizers alone, by
 * which Jobs count their pods.
 */
export const STAGES: readonly object[] = [
  stage("node-is-ready", {
    of: "Node",
    when: [isNoneOf('.status.conditions.[] | select( .type == "Ready" ) | .status', ["True"])],
    next: { statusTemplate: READY },
  }),
  stage("pod-runs", { when: [absent(DELETED), absent(".status.podIP")], next: { statusTemplate: RUNNING } }),
  stage("pod-ends", {
    when: [absent(DELETED), isOneOf(".status.phase", ["Running"]), exists(EXIT)],
    delay: {
      durationMilliseconds: 0,
      durationFrom: { expressionFrom: `.metadata.annotations["${AFTER_ANNOTATION}"]` },
    },
    next: { statusTemplate: ended(`index .metadata.annotations "${EXIT_ANNOTATION}"`) },
  }),
  stage("pod-stops", {
    when: [exists(DELETED), isOneOf(".status.phase", ["Running"])],
    next: { statusTemplate: ended(`"${STOPPED}"`) },
  }),
  stage("pod-gone", {
    when: [exists(DELETED), isOneOf(".status.phase", ["Pending", "Succeeded", "Failed"])],
    next: { delete: true },
  }),
];
