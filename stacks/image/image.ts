import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as dockerBuild from "@pulumi/docker-build";
import * as pulumi from "@pulumi/pulumi";
import { dockerfileArguments } from "../plan/dockerfile.ts";
import type { ImagePlan, ImageReference, ImageStage } from "../plan/types.ts";

export interface TunestackImageArgs {
  readonly plan: ImagePlan;
  /** Absolute folder of the project; the build's context is `images/qlora` in it. */
  readonly projectDir: string;
  /** Name and tag of a stage's image. Example: `tunestack/training:dev`. */
  readonly tagOf: (stage: ImageStage) => string;
  /** The images go to the registry that `tagOf` names, their build cache with them, and not into the engine. */
  readonly push: boolean;
}

/**
 * Builds the stages that a stack needs, with the engine's own BuildKit, so that no layer is copied into the engine a
 * second time.
 */
export class TunestackImage extends pulumi.ComponentResource {
  /** Content-addressed reference of each stage that was asked for. */
  readonly references: Readonly<Partial<Record<ImageStage, pulumi.Output<string>>>>;

  constructor(name: string, args: TunestackImageArgs, opts?: pulumi.ComponentResourceOptions) {
    super("tunestack:image:TunestackImage", name, {}, opts);
    const references: Partial<Record<ImageStage, pulumi.Output<string>>> = {};
    for (const stage of args.plan.stages) {
      const image = new dockerBuild.Image(`${name}-${stage}`, renderBuild(stage, args), { parent: this });
      references[stage] = args.push ? image.ref : image.digest;
    }
    this.references = references;
    this.registerOutputs({ references });
  }

  /** What a container's image is: what was built of its stage, or what a registry has under its name. */
  of(reference: ImageReference): pulumi.Input<string> {
    if (reference.kind === "registry") return reference.reference;
    const built = this.references[reference.stage];
    if (built === undefined) throw new Error(`the plan uses an image that it does not build: ${reference.stage}`);
    return built;
  }
}

/** The build of one stage; pure but for the proxy's certificate, which is read here. */
export function renderBuild(
  stage: ImageStage,
  { plan, projectDir, tagOf, push }: TunestackImageArgs,
): dockerBuild.ImageArgs {
  const certificate = plan.caCertificate === undefined ? undefined : readFileSync(plan.caCertificate, "utf8");
  return {
    context: { location: join(projectDir, "images", "qlora") },
    dockerfile: { location: join(projectDir, "images", "qlora", "Dockerfile") },
    target: stage,
    tags: [tagOf(stage)],
    buildArgs: dockerfileArguments(plan, certificate),
    ...(certificate === undefined ? {} : { secrets: { ca_certificate: certificate } }),
    builder: { name: "default" },
    exec: true,
    load: !push,
    push,
    // The engine's own BuildKit writes its cache into the image; other kinds of cache need a builder in a container.
    ...(push ? { cacheFrom: [{ registry: { ref: tagOf(stage) } }], cacheTo: [{ inline: {} }] } : {}),
    buildOnPreview: false,
  };
}
