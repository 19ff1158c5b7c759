import type { Api, KubernetesObject } from "./api.ts";

export type Named = Pick<KubernetesObject, "apiVersion" | "kind" | "metadata">;

export const nameOf = ({ kind, metadata }: Named) => `${kind} ${metadata.name}`;

/** Objects as they are in the cluster. @throws Error for one that is not there. */
export async function current(api: Api, of: readonly Named[]): Promise<readonly KubernetesObject[]> {
  return await Promise.all(
    of.map(async (one) => {
      const { apiVersion, kind, metadata } = one;
      const found = await api.get({ apiVersion, kind }, metadata.name ?? "", metadata.namespace);
      if (found === undefined) throw new Error(`${nameOf(one)} is not there`);
      return found;
    }),
  );
}

/** What the owner of the objects wrote, and when: controllers write of their own accord what they see. */
export async function written(api: Api, of: readonly Named[]): Promise<Readonly<Record<string, unknown>>> {
  return Object.fromEntries(
    (await current(api, of)).map((one) => {
      const fields = one.metadata.managedFields?.find(({ manager }) => manager === "tunestack");
      return [nameOf(one), { generation: one.metadata.generation, time: fields?.time, fields: fields?.fieldsV1 }];
    }),
  );
}
