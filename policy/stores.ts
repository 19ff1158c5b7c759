import type { PreviewedResource, Rule, Violation } from "./types.ts";

const RULE = "unprotected-data";

/** Types that hold what cannot be made again, in a person's words. */
const STORES: Readonly<Record<string, string>> = {
  "docker:index/volume:Volume": "volume",
  "gcp:compute/disk:Disk": "disk",
  "gcp:compute/regionDisk:RegionDisk": "disk",
  "gcp:storage/bucket:Bucket": "bucket",
  "gcp:filestore/instance:Instance": "file share",
  "gcp:secretmanager/secret:Secret": "secret",
  "kubernetes:core/v1:PersistentVolumeClaim": "volume claim",
  "kubernetes:core/v1:PersistentVolume": "volume",
};

/** What a resource is called where it holds data; undefined where it holds none. */
export function storeKind(type: string): string | undefined {
  return STORES[type];
}

/** Data outlives the stack that it was made by. */
export const unprotectedData: Rule = {
  name: RULE,
  demands: "a volume, disk or bucket is deleted or replaced only where what holds the data is kept (retainOnDelete)",
  check: (resources) => resources.flatMap(lossOf),
};

function lossOf({ name, type, operation, retainOnDelete }: PreviewedResource): readonly Violation[] {
  const kind = storeKind(type);
  if (kind === undefined || retainOnDelete || (operation !== "delete" && operation !== "replace")) return [];
  return [
    {
      rule: RULE,
      path: name,
      reason: `the ${kind} would be ${operation}d, and what it holds lost: it is not kept by retainOnDelete`,
      remedy: `make a snapshot first (npm run backup), set retainOnDelete in an update of its own, then ${operation} it`,
    },
  ];
}
