import { parse } from "yaml";
import { UNKNOWN } from "../../../policy/secrets.ts";
import type { PreviewedResource } from "../../../policy/types.ts";
import { isTree } from "../../../policy/values.ts";
import { LABELS } from "../../../stacks/targets/docker/render.ts";
import { PLAN_OBJECT } from "../../../stacks/targets/gcp-vm/paths.ts";
import { type Consequence, ended, safe } from "./levels.ts";
import type { Live } from "./live.ts";

/** What a change of an object in the stack's bucket means for what runs on its VM. */
export function ofBucketObject(change: PreviewedResource, live: Live): Consequence {
  if (change.inputs.name !== PLAN_OBJECT)
    return safe("a file that the VM brings with its next plan; a run in progress has read its own");
  switch (change.operation) {
    case "same":
      return safe("nothing changes");
    case "create":
      return safe("the VM's first plan");
    case "delete":
      return { level: "interrupts", text: "the VM has no plan any more: what runs stays, and nothing new starts" };
    case "update":
    case "replace":
      return ofNewPlan(change, live);
  }
}

/** A compose file as far as it matters here. */
interface VmPlan {
  readonly services: Readonly<Record<string, unknown>>;
  readonly run: { readonly service: string; readonly name: string; readonly specification: string } | undefined;
  readonly replaceRunning: boolean;
}

function ofNewPlan({ before, inputs }: PreviewedResource, live: Live): Consequence {
  const [old, next] = [readPlan(before?.content), readPlan(inputs.content)];
  if (old === undefined || next === undefined)
    return {
      level: live.kind === "none" ? "interrupts" : "unknown",
      text: `once the image is built, the VM restarts the services whose image or settings change; ${RUN_STAYS}`,
    };
  const parts = [...ofServices(old, next), ...ofRun(old, next, live)];
  const worst = LEVELS.find((level) => parts.some((part) => part.level === level)) ?? "safe";
  const texts = parts.map(({ text }) => text);
  return { level: worst, text: texts.length === 0 ? "nothing that runs changes" : texts.join("; ") };
}

const RUN_STAYS = "a run in progress stays, unless it changes itself and training.replaceRunning is set";

const LEVELS = ["kills", "unknown", "interrupts", "safe"] as const;

/** As the VM's agent goes through them: a service whose text is another one is made anew. */
function ofServices(old: VmPlan, next: VmPlan): readonly Consequence[] {
  const of = ({ services, run }: VmPlan) =>
    new Map(
      Object.entries(services).flatMap(([name, text]) => (name === run?.service ? [] : [[name, JSON.stringify(text)]])),
    );
  const [before, after] = [of(old), of(next)];
  const told = (level: Consequence["level"], verb: string, names: readonly string[]): readonly Consequence[] =>
    names.length === 0 ? [] : [{ level, text: `${verb} ${names.map((name) => `service ${name}`).join(", ")}` }];
  const changed = [...after].filter(([name, text]) => before.has(name) && before.get(name) !== text);
  return [
    ...told(
      "interrupts",
      "stops",
      [...before.keys()].filter((name) => !after.has(name)),
    ),
    ...told(
      "interrupts",
      "restarts",
      changed.map(([name]) => name),
    ),
    ...told(
      "safe",
      "starts",
      [...after.keys()].filter((name) => !before.has(name)),
    ),
  ];
}

/** As the VM's agent decides: by the run's specification, and by whether one in progress may be replaced. */
function ofRun({ run: old }: VmPlan, { run: next, replaceRunning }: VmPlan, live: Live): readonly Consequence[] {
  if (next === undefined)
    return live.kind === "run" ? [safe(`run ${live.name} leaves the plan, and goes on to its end`)] : [];
  if (next.specification === old?.specification) return [];
  switch (live.kind) {
    case "none":
      return [safe(`starts run ${next.name}`)];
    case "run":
      if (replaceRunning) return [{ level: "kills", text: ended(live) }];
      return [safe(`run ${live.name} goes on and is not replaced; run ${next.name} does not start`)];
    case "unseen":
      if (replaceRunning) return [{ level: "kills", text: "kills the run in progress, if there is one" }];
      return [safe(`starts run ${next.name}, unless one is in progress`)];
  }
}

function readPlan(content: unknown): VmPlan | undefined {
  if (typeof content !== "string" || content.includes(UNKNOWN)) return undefined;
  const file: unknown = parse(content);
  if (!isTree(file) || !isTree(file.services)) return undefined;
  const extension = isTree(file["x-tunestack"]) ? file["x-tunestack"] : {};
  return {
    services: file.services,
    run: readRun(file.services, extension.run),
    replaceRunning: extension.replaceRunning === true,
  };
}

function readRun(services: Readonly<Record<string, unknown>>, service: unknown): VmPlan["run"] {
  if (typeof service !== "string") return undefined;
  const workload = services[service];
  const labels = isTree(workload) && isTree(workload.labels) ? workload.labels : {};
  return { service, name: String(labels[LABELS.run]), specification: String(labels[LABELS.specification]) };
}
