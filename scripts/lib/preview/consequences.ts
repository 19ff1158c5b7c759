import { storeKind } from "../../../policy/stores.ts";
import type { PreviewedResource } from "../../../policy/types.ts";
import { treesIn } from "../../../policy/values.ts";
import { LABELS } from "../../../stacks/targets/docker/render.ts";

/** The run in progress; undefined where there is none. */
export interface LiveRun {
  readonly name: string;
  /** Undefined where its status cannot be read. */
  readonly step: number | undefined;
  readonly maxSteps: number | undefined;
}

export interface Consequence {
  /** How bad it is for who is working: nothing stops, a service stops for a moment or for good, a run ends, data goes. */
  readonly level: "safe" | "interrupts" | "kills" | "unknown";
  readonly text: string;
}

/** What a change means for what is running. */
export function consequenceOf(change: PreviewedResource, live: LiveRun | undefined): Consequence {
  const kind = storeKind(change.type);
  if (change.operation === "same") return safe("nothing changes");
  if (kind !== undefined) return ofStore(change, kind);
  switch (change.type) {
    case "docker:index/container:Container":
      return ofContainer(change, live);
    case "docker-build:index:Image":
      return safe(change.operation === "delete" ? "the image is no longer built" : "builds the image anew");
    case "docker:index/network:Network":
      return change.operation === "create" || change.operation === "update"
        ? safe("the network of the services")
        : { level: "interrupts", text: "every service loses its network and is restarted" };
    case "gcp:compute/instanceTemplate:InstanceTemplate":
      return safe("holds for the next machine; the one that runs stays as it is");
    case "gcp:container/nodePool:NodePool":
      return ofNodes(change, live, "node pool");
    case "gcp:container/cluster:Cluster":
      return ofNodes(change, live, "cluster");
    case "gcp:compute/instance:Instance":
    case "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager":
      return ofMachine(change, live);
    default:
      return change.operation === "create"
        ? safe("something new; nothing that runs uses it yet")
        : { level: "unknown", text: "not known for this type: look at the properties" };
  }
}

function safe(text: string): Consequence {
  return { level: "safe", text };
}

function ofStore({ operation, retainOnDelete }: PreviewedResource, kind: string): Consequence {
  const kept = retainOnDelete ? `the old ${kind} is kept, outside the stack` : `the old ${kind} and its data are lost`;
  const level = retainOnDelete ? "interrupts" : "kills";
  switch (operation) {
    case "delete":
      return { level, text: `leaves the stack: ${kept}` };
    case "replace":
      return { level, text: `a new, empty ${kind} takes its place: ${kept}` };
    case "create":
      return safe(`a new ${kind}`);
    case "update":
    case "same":
      return safe(`the ${kind} and its data stay`);
  }
}

function ofContainer(change: PreviewedResource, live: LiveRun | undefined): Consequence {
  // What runs now is told by what stood there before.
  const labels = labelsOf(change.before ?? change.inputs);
  const run = labels.get(LABELS.run);
  const service = labels.get(LABELS.service) ?? change.name;
  const what = run === undefined ? `service ${service}` : `run ${run}`;
  switch (change.operation) {
    case "create":
      return safe(`starts ${what}`);
    case "update":
    case "same":
      return safe(`changes ${what} while it runs`);
    case "delete":
      if (run !== undefined) return endOfRun(run, live, "removes the container of");
      return { level: "interrupts", text: `stops ${what}` };
    case "replace": {
      if (run === undefined) return { level: "interrupts", text: `restarts ${what}` };
      const next = labelsOf(change.inputs).get(LABELS.run) ?? run;
      return endOfRun(run, live, next === run ? "makes a new container for" : `starts run ${next} in the place of`);
    }
  }
}

function endOfRun(run: string, live: LiveRun | undefined, otherwise: string): Consequence {
  if (live?.name === run) return { level: "kills", text: killed(live) };
  return safe(`${otherwise} run ${run}, which is not in progress`);
}

function killed({ name, step, maxSteps }: LiveRun): string {
  if (step === undefined) return `kills run ${name}, which is in progress; its step cannot be read`;
  return `kills run ${name} at step ${step}${maxSteps === undefined ? "" : ` of ${maxSteps}`}`;
}

function ofMachine({ operation }: PreviewedResource, live: LiveRun | undefined): Consequence {
  switch (operation) {
    case "create":
      return safe("rents a machine");
    case "update":
    case "same":
      return safe("changes the machine's group while the machine runs");
    case "delete":
    case "replace":
      if (live !== undefined) return { level: "kills", text: killed(live) };
      return { level: "interrupts", text: "ends the machine, and what runs on it" };
  }
}

/** Where a run is among nodes, nobody knows here: what takes nodes away may take its own. */
function ofNodes({ operation }: PreviewedResource, live: LiveRun | undefined, what: string): Consequence {
  switch (operation) {
    case "create":
      return safe(`a new ${what}`);
    case "same":
      return safe("nothing changes");
    case "update":
      return { level: "interrupts", text: `changes the ${what}: where a node is made anew, what runs on it is moved` };
    case "delete":
    case "replace":
      if (live !== undefined) return { level: "kills", text: `${killed(live)}, where it is on this ${what}` };
      return { level: "interrupts", text: `ends the nodes of this ${what}, and what runs on them` };
  }
}

function labelsOf(inputs: Readonly<Record<string, unknown>>): ReadonlyMap<string, string> {
  return new Map(treesIn(inputs.labels).map(({ label, value }) => [String(label), String(value)]));
}
