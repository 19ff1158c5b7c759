import type Docker from "dockerode";
import type { ImageStage } from "../../stacks/plan/types.ts";

export const STAGES: readonly ImageStage[] = ["training", "dev", "monitor", "backup"];

/** One step of an image's history, oldest first. */
export interface LayerStep {
  readonly createdBy: string;
  readonly created: number;
  readonly bytes: number;
}

/** What an image is made of, in bytes. */
export interface ImageParts {
  /** The base image, with the user and folders that all stages share. */
  readonly base: number;
  /** Packages from Debian and from Python's index. */
  readonly packages: number;
  /** Our own code: what an edit builds anew. */
  readonly code: number;
}

/** The base ends with the labels of the project, which its Dockerfile puts there. */
const END_OF_BASE = "org.opencontainers.image.title=tunestack";
const OWN_CODE = /^COPY .*\/opt\/tunestack/;

/** Sorts an image's layers into base, packages and code. */
export function partsOf(steps: readonly LayerStep[]): ImageParts {
  const end = steps.findIndex(({ createdBy }) => createdBy.includes(END_OF_BASE));
  const sum = (chosen: readonly LayerStep[]) => chosen.reduce((total, { bytes }) => total + bytes, 0);
  const above = steps.slice(end + 1);
  return {
    base: sum(steps.slice(0, end + 1)),
    packages: sum(above.filter(({ createdBy }) => !OWN_CODE.test(createdBy))),
    code: sum(above.filter(({ createdBy }) => OWN_CODE.test(createdBy))),
  };
}

/** What several images take together: a layer that they share counts once. */
export function togetherBytes(images: readonly (readonly LayerStep[])[]): number {
  const layers = new Map<string, number>();
  for (const steps of images) {
    let chain = "";
    for (const { createdBy, created, bytes } of steps) {
      chain += `${created} ${createdBy}\n`;
      layers.set(chain, bytes);
    }
  }
  return [...layers.values()].reduce((total, bytes) => total + bytes, 0);
}

/** Bytes of the layers that the second image does not have from the first. */
export function addedBytes(before: readonly LayerStep[], after: readonly LayerStep[]): number {
  return togetherBytes([before, after]) - togetherBytes([before]);
}

/** An image's history, oldest first; undefined where there is no such image. */
export async function readSteps(client: Docker, image: string): Promise<readonly LayerStep[] | undefined> {
  try {
    const history: { readonly CreatedBy: string; readonly Created: number; readonly Size: number }[] = await client
      .getImage(image)
      .history();
    return history
      .map(({ CreatedBy, Created, Size }) => ({ createdBy: CreatedBy, created: Created, bytes: Size }))
      .reverse();
  } catch (error) {
    if (error instanceof Error && "statusCode" in error && error.statusCode === 404) return undefined;
    throw error;
  }
}

/** A size as `docker images` tells it, by thousands: `5.08 GB`. */
export function dockerSize(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = bytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  return `${Number((bytes / 1000 ** power).toPrecision(3))} ${units[power]}`;
}
