import { expect, test } from "vitest";
import { appliedBy } from "../../scripts/lib/cluster/applied.ts";

/** A run as it stands in a cluster: a queue has written a node selector and a suspension into it, a server a status. */
function live(fieldsV1: object) {
  return {
    apiVersion: "jobset.x-k8s.io/v1alpha2",
    kind: "JobSet",
    metadata: {
      name: "first-run",
      namespace: "tunestack-team",
      uid: "0123",
      resourceVersion: "42",
      labels: { ours: "yes", theirs: "no" },
      managedFields: [
        { manager: "kueue", operation: "Update", fieldsV1: { "f:spec": { "f:suspend": {} } } },
        { manager: "pulumi-kubernetes-1a2b", operation: "Apply", fieldsV1 },
      ],
    },
    spec: {
      suspend: true,
      jobs: [
        { name: "node", replicas: 1, template: { args: ["b", "a"], nodeSelector: { pool: "l4" } } },
        { name: "other", replicas: 2 },
      ],
      finalizers: ["one", "two"],
    },
    status: { terminalState: "Failed" },
  };
}

const OWNED = {
  "f:metadata": { "f:labels": { "f:ours": {} } },
  "f:spec": {
    "f:jobs": { 'k:{"name":"node"}': { ".": {}, "f:name": {}, "f:replicas": {}, "f:template": { "f:args": {} } } },
    "f:finalizers": { 'v:"two"': {} },
  },
};

test("what was applied is told apart from what others wrote", () => {
  expect(appliedBy(live(OWNED))).toEqual({
    manager: "pulumi-kubernetes-1a2b",
    applied: {
      apiVersion: "jobset.x-k8s.io/v1alpha2",
      kind: "JobSet",
      metadata: { name: "first-run", namespace: "tunestack-team", labels: { ours: "yes" } },
      spec: {
        jobs: [{ name: "node", replicas: 1, template: { args: ["b", "a"] } }],
        finalizers: ["two"],
      },
    },
  });
});

test("items of a list keep their order, whatever the order of the fields", () => {
  const both = {
    "f:spec": { "f:jobs": { 'k:{"name":"other"}': { "f:name": {} }, 'k:{"name":"node"}': { "f:name": {} } } },
  };
  expect(appliedBy(live(both)).applied).toMatchObject({ spec: { jobs: [{ name: "node" }, { name: "other" }] } });
});

test("an object that nobody applied is refused", () => {
  const object = live(OWNED);
  const managedFields = object.metadata.managedFields.slice(0, 1);
  expect(() => appliedBy({ ...object, metadata: { ...object.metadata, managedFields } })).toThrow(/not applied/);
});
