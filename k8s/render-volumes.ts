import type { Plan, VolumeName } from "../stacks/plan/types.ts";
import type { ClusterLayout, StorageClassLayout } from "./layout.ts";
import { claimName, clusterName, inCluster, inNamespace } from "./names.ts";
import type { ClaimObject, Rendered, StorageClassObject, VolumeObject } from "./objects.ts";
import { quantity } from "./render-pod.ts";

/** The driver that mounts buckets: https://cloud.google.com/kubernetes-engine/docs/concepts/cloud-storage-fuse-csi-driver. */
const BUCKET_DRIVER = "gcsfuse.csi.storage.gke.io";
/** A bucket knows no owners: files are those of the images' user, and folders are there without objects of their own. */
const BUCKET_OPTIONS = ["implicit-dirs", "uid=1000", "gid=1000", "file-mode=660", "dir-mode=770"];

/** Storage classes, the buckets that are volumes, and a claim for each volume of the plan. */
export function renderVolumes(plan: Plan, layout: ClusterLayout): readonly Rendered[] {
  return [
    ...layout.storageClasses.map((storageClass) => ({
      logicalName: `storage-class-${storageClass.name}`,
      object: renderStorageClass(layout, storageClass),
    })),
    ...plan.volumes.flatMap(({ name }): readonly Rendered[] => {
      const { bucket } = layout.claims[name];
      const claim = { logicalName: `claim-${claimName(name)}`, object: renderClaim(layout, name) };
      if (bucket === undefined) return [claim];
      return [{ logicalName: `volume-${claimName(name)}`, object: renderBucketVolume(layout, name, bucket) }, claim];
    }),
  ];
}

/** What its volumes hold stays when their claims go, and they are where the first pod that mounts them is. */
function renderStorageClass(
  layout: ClusterLayout,
  { name, provisioner, parameters }: StorageClassLayout,
): StorageClassObject {
  return {
    apiVersion: "storage.k8s.io/v1",
    kind: "StorageClass",
    metadata: inCluster(layout, name),
    provisioner,
    parameters,
    reclaimPolicy: "Retain",
    volumeBindingMode: "WaitForFirstConsumer",
    allowVolumeExpansion: true,
  };
}

/** The claim and its volume name each other, so that no other claim takes the bucket. */
function renderBucketVolume(layout: ClusterLayout, name: VolumeName, bucket: string): VolumeObject {
  return {
    apiVersion: "v1",
    kind: "PersistentVolume",
    metadata: inCluster(layout, claimName(name)),
    spec: {
      accessModes: [layout.claims[name].accessMode],
      capacity: { storage: quantity(layout.claims[name].bytes) },
      persistentVolumeReclaimPolicy: "Retain",
      storageClassName: "",
      mountOptions: [...BUCKET_OPTIONS],
      csi: { driver: BUCKET_DRIVER, volumeHandle: bucket },
      claimRef: { namespace: layout.namespace, name: claimName(name) },
    },
  };
}

function renderClaim(layout: ClusterLayout, name: VolumeName): ClaimObject {
  const { storageClass, bucket, accessMode, bytes } = layout.claims[name];
  return {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: inNamespace(layout, claimName(name)),
    spec: {
      accessModes: [accessMode],
      ...(bucket === undefined
        ? storageClass === undefined
          ? {}
          : { storageClassName: storageClass }
        : // The empty class is none: nobody makes a volume for this claim.
          { storageClassName: "", volumeName: clusterName(layout, claimName(name)) }),
      resources: { requests: { storage: quantity(bytes) } },
    },
  };
}
