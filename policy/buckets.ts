import type { PreviewedResource, Rule, Violation } from "./types.ts";

const RULE = "open-bucket";

/** Who may read a bucket stands in one place, and the internet is never among them. */
export const openBucket: Rule = {
  name: RULE,
  demands: "a bucket has uniform access and enforces the prevention of public access",
  check: (resources) => resources.filter(({ operation }) => operation !== "delete").flatMap(bucketOf),
};

function bucketOf({ name, type, inputs }: PreviewedResource): readonly Violation[] {
  if (type === "gcp:storage/bucketACL:BucketACL" || type === "gcp:storage/objectACL:ObjectACL") {
    return [
      {
        rule: RULE,
        path: name,
        reason: "grants access object by object, beside the roles of the bucket",
        remedy: "grant a role on the bucket: gcp.storage.BucketIAMMember",
      },
    ];
  }
  if (type !== "gcp:storage/bucket:Bucket") return [];
  const uniform: readonly Violation[] =
    inputs.uniformBucketLevelAccess === true
      ? []
      : [
          {
            rule: RULE,
            path: `${name}: uniformBucketLevelAccess`,
            value: String(inputs.uniformBucketLevelAccess ?? "not set"),
            reason: "each object may have readers of its own, whom nobody sees in the bucket's roles",
            remedy: "set uniformBucketLevelAccess: true",
          },
        ];
  const closed: readonly Violation[] =
    inputs.publicAccessPrevention === "enforced"
      ? []
      : [
          {
            rule: RULE,
            path: `${name}: publicAccessPrevention`,
            value: String(inputs.publicAccessPrevention ?? "not set"),
            reason: "a role for allUsers would open the bucket to the internet",
            remedy: 'set publicAccessPrevention: "enforced"',
          },
        ];
  return [...uniform, ...closed];
}
