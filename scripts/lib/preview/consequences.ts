import { storeKind } from "../../../policy/stores.ts";
import type { PreviewedResource } from "../../../policy/types.ts";
import { treesIn } from "../../../policy/values.ts";
import { LABELS } from "../../../stacks/targets/docker/render.ts";
import { ofClusterObject } from "./cluster-consequences.ts";
import { type Consequence, ended, endOfRun, safe } from "./levels.ts";
import type { Live } from "./live.ts";
import { ofBucketObject } from "./vm-plan.ts";

/** What a change means for what is running. */
export function consequenceOf(change: PreviewedResource, live: Live): Consequence {
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
    case "gcp:container/nodePool:NodePool":
      return ofNodes(change, live, "node pool");
    case "gcp:container/cluster:Cluster":
      return ofNodes(change, live, "cluster");
    case "gcp:storage/bucketObject:BucketObject":
      return ofBucketObject(change, live);
    case "gcp:compute/instance:Instance":
    case "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager":
      return ofMachine(change, live);
    default:
      return ofClusterObject(change, live) ?? ofSurroundings(change);
  }
}

/** What stands around a VM: what its change does while the VM runs. */
const AROUND_A_VM: Readonly<Record<string, Consequence>> = {
  "gcp:compute/instanceTemplate:InstanceTemplate": safe("holds for the next machine; the one that runs stays as it is"),
  "gcp:compute/routerNat:RouterNat": breaks("downloads and pushes of the machine break off meanwhile; the run goes on"),
  "gcp:compute/router:Router": breaks("downloads and pushes of the machine break off meanwhile; the run goes on"),
  "gcp:compute/firewall:Firewall": breaks("tunnels to the machine may break off; what runs goes on"),
  "gcp:secretmanager/secretVersion:SecretVersion": safe("the machine takes the new value with its next plan or start"),
  "gcp:billing/budget:Budget": safe("tells of costs, and stops nothing"),
  "gcp:projects/service:Service": safe("a service of Google's stays on when the stack no longer names it"),
  "gcp:colab/runtimeTemplate:RuntimeTemplate": safe("holds for new runtimes; those that are there stay"),
};

function ofSurroundings({ type, operation }: PreviewedResource): Consequence {
  if (operation === "create") return safe("something new; nothing that runs uses it yet");
  const known = AROUND_A_VM[type];
  if (known !== undefined) return known;
  if (/^gcp:.*(IAM|Iam)(Member|Binding|CustomRole)\b/.test(type))
    return breaks("whoever acts by it may be refused meanwhile, or for good; what is in progress goes on");
  return { level: "unknown", text: "not known for this type: look at the properties" };
}

function breaks(text: string): Consequence {
  return { level: "interrupts", text };
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

function ofContainer(change: PreviewedResource, live: Live): Consequence {
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

function ofMachine({ operation }: PreviewedResource, live: Live): Consequence {
  switch (operation) {
    case "create":
      return safe("rents a machine");
    case "update":
    case "same":
      return safe("changes the machine's group while the machine runs");
    case "delete":
    case "replace":
      if (live.kind === "run") return { level: "kills", text: ended(live) };
      return { level: "interrupts", text: "ends the machine, and what runs on it" };
  }
}

/** Where a run is among nodes, nobody knows here: what takes nodes away may take its own. */
function ofNodes({ operation }: PreviewedResource, live: Live, what: string): Consequence {
  switch (operation) {
    case "create":
      return safe(`a new ${what}`);
    case "same":
      return safe("nothing changes");
    case "update":
      return { level: "interrupts", text: `changes the ${what}: where a node is made anew, what runs on it is moved` };
    case "delete":
    case "replace":
      if (live.kind === "run") return { level: "kills", text: `${ended(live)}, where it is on this ${what}` };
      return { level: "interrupts", text: `ends the nodes of this ${what}, and what runs on them` };
  }
}

function labelsOf(inputs: Readonly<Record<string, unknown>>): ReadonlyMap<string, string> {
  return new Map(treesIn(inputs.labels).map(({ label, value }) => [String(label), String(value)]));
}
