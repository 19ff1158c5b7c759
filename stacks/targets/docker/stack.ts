import * as docker from "@pulumi/docker";
import * as dockerBuild from "@pulumi/docker-build";
import * as pulumi from "@pulumi/pulumi";
import { TunestackImage } from "../../image/image.ts";
import type { ImageReference, Plan, VolumeName, Workload } from "../../plan/types.ts";
import { type Naming, networkName, type Resolver, renderRun, renderService, volumeName } from "./render.ts";

export interface DockerStackArgs {
  readonly plan: Plan;
  readonly naming: Naming;
  /** Absolute folder of the project. */
  readonly projectDir: string;
  /** Engine other than the local one. Example: `ssh://me@gpu-box`. */
  readonly host: string | undefined;
  /** Image that the run keeps although a newer one is built, because it is the same run; undefined takes the newest. */
  readonly runImage: string | undefined;
}

/** The stack on one Docker engine: network, volumes, images, services and the run. */
export class DockerStack extends pulumi.ComponentResource {
  /** Reference of each image that was built, by its stage. */
  readonly images: TunestackImage["references"];

  constructor(name: string, args: DockerStackArgs, opts?: pulumi.ComponentResourceOptions) {
    super("tunestack:docker:DockerStack", name, {}, withEngine(name, args.host, opts));
    const network = this.network(name, args);
    const volumes = this.volumes(name, args);
    const image = this.image(name, args);
    const resolve = resolver(image, volumes);
    for (const workload of args.plan.services) this.service(name, workload, args, resolve, network);
    this.run(name, args, resolve, network);
    this.images = image.references;
    this.registerOutputs({ images: this.images });
  }

  private network(name: string, { naming }: DockerStackArgs): docker.Network {
    return new docker.Network(
      `${name}-network`,
      { name: networkName(naming), driver: "bridge" },
      { parent: this, deleteBeforeReplace: true },
    );
  }

  /** Kept when the stack is destroyed: losing a volume is always somebody's explicit choice. */
  private volumes(name: string, { plan, naming }: DockerStackArgs): ReadonlyMap<VolumeName, docker.Volume> {
    return new Map(
      plan.volumes.map((volume) => [
        volume.name,
        new docker.Volume(
          `${name}-${volume.name.replaceAll("_", "-")}`,
          { name: volumeName(naming, volume.name) },
          { parent: this, retainOnDelete: true },
        ),
      ]),
    );
  }

  private image(name: string, { plan, naming, projectDir }: DockerStackArgs): TunestackImage {
    const tagOf = (stage: string) => `tunestack/${naming.prefix}${stage}:${plan.stack}`;
    return new TunestackImage(`${name}-image`, { plan: plan.image, projectDir, tagOf, push: false }, { parent: this });
  }

  private service(
    name: string,
    workload: Workload,
    { naming }: DockerStackArgs,
    resolve: Resolver,
    network: docker.Network,
  ): void {
    const logicalName = `${name}-${workload.name}`;
    const image: Resolver["image"] = (reference) =>
      reference.kind === "registry" ? this.pulled(logicalName, reference.reference) : resolve.image(reference);
    new docker.Container(
      logicalName,
      renderService(workload, naming, { ...resolve, image }),
      this.containerOptions(network),
    );
  }

  private pulled(logicalName: string, reference: string): pulumi.Output<string> {
    return new docker.RemoteImage(`${logicalName}-image`, { name: reference, keepLocally: true }, { parent: this })
      .imageId;
  }

  private run(name: string, args: DockerStackArgs, resolve: Resolver, network: docker.Network): void {
    const { plan, naming, runImage } = args;
    if (plan.run === undefined) return;
    const image: Resolver["image"] = (reference) => runImage ?? resolve.image(reference);
    const container = renderRun(plan.run.workload, plan.run.run, naming, { ...resolve, image });
    new docker.Container(`${name}-qlora-training`, container, this.containerOptions(network));
  }

  private containerOptions(network: docker.Network): pulumi.CustomResourceOptions {
    return {
      parent: this,
      dependsOn: network,
      // Its name is its own, so the old one goes first.
      deleteBeforeReplace: true,
      // The provider updates these in its state and leaves the container as it is.
      replaceOnChanges: ["mounts", "healthcheck", "tmpfs", "init"],
    };
  }
}

function withEngine(
  name: string,
  host: string | undefined,
  opts: pulumi.ComponentResourceOptions | undefined,
): pulumi.ComponentResourceOptions {
  if (host === undefined) return opts ?? {};
  const providers = {
    docker: new docker.Provider(`${name}-engine`, { host }),
    "docker-build": new dockerBuild.Provider(`${name}-builder`, { host }),
  };
  return { ...opts, providers };
}

function resolver(image: TunestackImage, volumes: ReadonlyMap<VolumeName, docker.Volume>): Resolver {
  return {
    image: (reference: ImageReference) => {
      const built = reference.kind === "stage" ? image.references[reference.stage] : undefined;
      if (built === undefined)
        throw new Error(`the plan uses an image that it does not build: ${JSON.stringify(reference)}`);
      return built;
    },
    volume: (volume) => {
      const declared = volumes.get(volume);
      if (declared === undefined) throw new Error(`the plan mounts a volume that it does not declare: ${volume}`);
      return declared.name;
    },
    variable: (name, value) => pulumi.interpolate`${name}=${value}`,
  };
}
