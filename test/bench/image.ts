import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Benchmark, type Measure, measure } from "../../scripts/lib/bench.ts";
import { Containers } from "../../scripts/lib/containers.ts";
import { type LayerStep, readSteps, STAGES, togetherBytes } from "../../scripts/lib/image-layers.ts";
import { PROJECT_DIR, pulumiEnvironment } from "../../scripts/lib/project.ts";
import { readInputs } from "../../scripts/lib/stack.ts";
import type { Report } from "../../scripts/lib/steps.ts";
import { planImage } from "../../stacks/plan/image.ts";
import type { ImagePlan } from "../../stacks/plan/types.ts";
import { cleanUp } from "./lib/cleanup.ts";
import { PREFIX, run, STACK } from "./lib/clone.ts";
import { withoutStages } from "./lib/dockerfiles.ts";

const CONTEXT = join(PROJECT_DIR, "images", "qlora");
const BOUNDS: Readonly<Record<string, string>> = { training: "<= 6", monitor: "< 0.2", backup: "< 0.2" };

export const benchmark: Benchmark = {
  summary: "size of the image by stage, against one stage on a base with compilers and pip's cache",
  run: compare,
};

async function compare(report: Report): Promise<readonly Measure[]> {
  const { client } = new Containers({});
  await cleanUp(client);
  const inputs = readInputs("dev");
  const plan = planImage(inputs, inputs.machine.accelerator);
  const folder = mkdtempSync(join(tmpdir(), "tunestack-image-"));
  const images = new Map<string, readonly LayerStep[]>();
  try {
    for (const stage of STAGES) {
      report(`stage ${stage}`);
      images.set(stage, await build(stage, join(CONTEXT, "Dockerfile"), plan, ["--target", stage]));
    }
    report("one stage without order, which takes minutes");
    writeFileSync(join(folder, "Dockerfile"), withoutStages(develBase(plan.base), plan.pythonSet));
    images.set("devel", await build("devel", join(folder, "Dockerfile"), plan, []));
    return figures(images);
  } finally {
    rmSync(folder, { recursive: true, force: true });
    await cleanUp(client);
  }

  async function build(
    name: string,
    dockerfile: string,
    image: ImagePlan,
    more: readonly string[],
  ): Promise<readonly LayerStep[]> {
    const tag = `tunestack/${PREFIX}${name}:${STACK}`;
    const args = [
      "buildx",
      "build",
      "--builder",
      "default",
      "--load",
      "--tag",
      tag,
      "--file",
      dockerfile,
      ...buildArgs(image),
      ...more,
      CONTEXT,
    ];
    Object.assign(process.env, pulumiEnvironment(process.env));
    await run("docker", args, PROJECT_DIR);
    const steps = await readSteps(client, tag);
    if (steps === undefined) throw new Error(`${tag} was not built`);
    return steps;
  }
}

function buildArgs({ base, pythonSet, pypiMirror, aptMirror }: ImagePlan): readonly string[] {
  const values = { BASE_IMAGE: base, PYTHON_SET: pythonSet, PYPI_MIRROR: pypiMirror, APT_MIRROR: aptMirror };
  return Object.entries(values).flatMap(([key, value]) =>
    value === undefined ? [] : ["--build-arg", `${key}=${value}`],
  );
}

/** NVIDIA's base with compilers; elsewhere the same base, to which the one stage adds them itself. */
function develBase(base: string): string {
  return base.startsWith("nvidia/cuda:") ? base.replace("-base-", "-devel-").replace(/@sha256:.*/, "") : base;
}

function figures(images: ReadonlyMap<string, readonly LayerStep[]>): readonly Measure[] {
  const gigabytes = (steps: readonly LayerStep[]) => steps.reduce((sum, { bytes }) => sum + bytes, 0) / 1e9;
  const sizeOf = (name: string) => gigabytes(images.get(name) ?? []);
  const stages = STAGES.flatMap((stage) => {
    const steps = images.get(stage);
    return steps === undefined ? [] : [steps];
  });
  return [
    ...STAGES.map((stage) => measure(`stage ${stage}`, sizeOf(stage), "GB", BOUNDS[stage])),
    measure("all stages, shared layers once", togetherBytes(stages) / 1e9, "GB"),
    measure("one stage with compilers, nothing cleaned up", sizeOf("devel"), "GB"),
    measure("one stage / training", sizeOf("devel") / sizeOf("training"), "×", "> 1"),
    measure("one stage / monitor", sizeOf("devel") / sizeOf("monitor"), "×"),
  ];
}
