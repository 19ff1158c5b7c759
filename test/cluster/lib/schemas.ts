import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { Api, Kind } from "./api.ts";

/** A schema of OpenAPI 3.0, which is JSON schema but for a few words. */
type Schema = { readonly [word: string]: unknown };

const indexSchema = z.object({ paths: z.record(z.string(), z.object({ serverRelativeURL: z.string() })) });
const documentSchema = z.object({
  components: z.object({
    schemas: z.record(
      z.string(),
      z.looseObject({
        "x-kubernetes-group-version-kind": z
          .array(z.object({ group: z.string(), version: z.string(), kind: z.string() }))
          .optional(),
      }),
    ),
  }),
});

const REFERENCE = "#/components/schemas/";

/** Where kubeconform finds the schema of a kind, in its own template language. */
export const SCHEMA_FILES = "{{ .ResourceKind }}{{ .KindSuffix }}.json";

/**
 * Writes a JSON schema for each kind, made from what the API server tells of itself, definitions of controllers
 * included. Strict: a field that a kind does not have is an error.
 */
export async function writeSchemas(api: Api, kinds: readonly Kind[], folder: string): Promise<void> {
  const { paths } = indexSchema.parse((await api.call("GET", "/openapi/v3")).body);
  for (const apiVersion of new Set(kinds.map((one) => one.apiVersion))) {
    const path = apiVersion.includes("/") ? `apis/${apiVersion}` : `api/${apiVersion}`;
    const found = paths[path];
    if (found === undefined) throw new Error(`the API server tells nothing of ${apiVersion}`);
    const { components } = documentSchema.parse((await api.call("GET", found.serverRelativeURL)).body);
    const definitions = Object.fromEntries(
      Object.entries(components.schemas).map(([name, one]) => [name, strict(one)]),
    );
    for (const { kind } of kinds.filter((one) => one.apiVersion === apiVersion)) {
      const named = Object.entries(components.schemas).find(([, one]) =>
        one["x-kubernetes-group-version-kind"]?.some(
          ({ group, version, kind: of }) =>
            of === kind && apiVersion === (group === "" ? version : `${group}/${version}`),
        ),
      );
      if (named === undefined) throw new Error(`the API server tells nothing of ${apiVersion} ${kind}`);
      const schema = { $ref: `${REFERENCE}${named[0]}`, components: { schemas: definitions } };
      writeFileSync(join(folder, fileName(apiVersion, kind)), JSON.stringify(schema));
    }
  }
}

/** As kubeconform fills in SCHEMA_FILES. Example: `jobset-jobset-v1alpha2.json`. */
function fileName(apiVersion: string, kind: string): string {
  const [group = "", version] = apiVersion.split("/");
  const suffix = [group.split(".")[0], ...(version === undefined ? [] : [version])];
  return `${[kind, ...suffix].join("-").toLowerCase()}.json`;
}

/** The same schema in the words of JSON schema, without fields that it does not name. */
function strict(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(strict);
  if (typeof schema !== "object" || schema === null) return schema;
  const given = schema as Schema;
  const inner = Object.fromEntries(
    Object.entries(given).map(([word, value]) => [word, word === "properties" ? strictEach(value) : strict(value)]),
  );
  const isOpen = given.additionalProperties !== undefined || given["x-kubernetes-preserve-unknown-fields"] === true;
  return {
    ...inner,
    ...(given.nullable === true && typeof given.type === "string" ? { type: [given.type, "null"] } : {}),
    ...(given.properties === undefined || isOpen ? {} : { additionalProperties: false }),
  };
}

/** Names of properties are no words of the schema's language. */
function strictEach(properties: unknown): Schema {
  return Object.fromEntries(Object.entries(properties as Schema).map(([name, value]) => [name, strict(value)]));
}
