import { Agent, request } from "node:https";
import { z } from "zod";

/** Any Kubernetes object; its other fields are read through a schema. */
export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name?: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly resourceVersion?: string;
    readonly generation?: number;
    readonly creationTimestamp?: string;
    readonly deletionTimestamp?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly managedFields?: readonly {
      readonly manager: string;
      readonly operation?: string;
      readonly time?: string;
      readonly fieldsV1?: unknown;
    }[];
    readonly ownerReferences?: readonly { readonly kind: string; readonly name: string; readonly uid: string }[];
  };
  readonly [field: string]: unknown;
}

/** What names a kind of object. */
export interface Kind {
  readonly apiVersion: string;
  readonly kind: string;
}

export interface Access {
  readonly address: string;
  /** The certificate of the API server, as PEM. */
  readonly authority: string;
  readonly token: string;
  /** Port at which the kubelets of all nodes answer. */
  readonly kubelet: number;
}

export interface Answer {
  readonly body: unknown;
  /** What the server warns of: deprecated versions, unknown fields, pods below the namespace's security level. */
  readonly warnings: readonly string[];
}

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

const statusSchema = z.object({ message: z.string() });
const resourcesSchema = z.object({
  resources: z.array(z.object({ name: z.string(), kind: z.string(), namespaced: z.boolean() })),
});
const listSchema = z.object({
  metadata: z.object({ continue: z.string().optional() }),
  items: z.array(z.looseObject({ metadata: z.looseObject({ name: z.string() }) })),
});

const PAGE = 2000;

/** The few calls of the API of Kubernetes that the tests make. */
export class Api {
  private readonly agent: Agent;
  private readonly resources = new Map<string, Promise<z.infer<typeof resourcesSchema>["resources"]>>();

  constructor(
    readonly access: Access,
    connections = 32,
  ) {
    this.agent = new Agent({ keepAlive: true, maxSockets: connections, ca: access.authority });
  }

  close(): void {
    this.agent.destroy();
  }

  /**
   * Server-side apply. Unknown and repeated fields are errors.
   * @param manager who owns the fields that are set.
   */
  async apply(object: KubernetesObject, manager = "tunestack", dryRun = false): Promise<KubernetesObject & Answer> {
    const query = new URLSearchParams({ fieldManager: manager, fieldValidation: "Strict", force: "true" });
    if (dryRun) query.set("dryRun", "All");
    const path = `${await this.pathOf(object, object.metadata)}?${query}`;
    const answer = await this.call("PATCH", path, object, "application/apply-patch+yaml");
    return { ...(answer.body as KubernetesObject), ...answer };
  }

  async create(object: KubernetesObject): Promise<KubernetesObject> {
    const path = await this.pathOf(object, { namespace: object.metadata.namespace });
    return (await this.call("POST", path, object)).body as KubernetesObject;
  }

  /** Undefined where there is no such object. */
  async get<T = KubernetesObject>(kind: Kind, name: string, namespace?: string): Promise<T | undefined> {
    try {
      return (await this.call("GET", await this.pathOf(kind, { name, namespace }))).body as T;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  /** All objects of a kind, in one namespace or all. */
  async list<T = KubernetesObject>(
    kind: Kind,
    namespace?: string,
    labelSelector = "",
    fieldSelector = "",
  ): Promise<readonly T[]> {
    const items: unknown[] = [];
    let next = "";
    do {
      const query = new URLSearchParams({ limit: String(PAGE), continue: next, labelSelector, fieldSelector });
      const page = listSchema.parse(
        (await this.call("GET", `${await this.pathOf(kind, { namespace })}?${query}`)).body,
      );
      items.push(...page.items.map((item) => ({ ...kind, ...item })));
      next = page.metadata.continue ?? "";
    } while (next !== "");
    return items as readonly T[];
  }

  async merge(kind: Kind, name: string, namespace: string | undefined, patch: object, subresource = ""): Promise<void> {
    const path = `${await this.pathOf(kind, { name, namespace })}${subresource}`;
    await this.call("PATCH", path, patch, "application/merge-patch+json");
  }

  async remove(kind: Kind, name: string, namespace?: string): Promise<void> {
    const options = { propagationPolicy: "Background" };
    await this.call("DELETE", await this.pathOf(kind, { name, namespace }), options);
  }

  /** One call. @throws ApiError with the server's own words. */
  async call(method: string, path: string, body?: object, type = "application/json"): Promise<Answer> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const { status, warnings, content } = await this.send(method, path, text, type);
    let parsed: unknown = content;
    try {
      parsed = JSON.parse(content);
    } catch {
      // A probe answers in plain words.
    }
    if (status < 300) return { body: parsed, warnings };
    const told = statusSchema.safeParse(parsed);
    throw new ApiError(status, `${method} ${path}: ${status}: ${told.success ? told.data.message : content}`);
  }

  private send(method: string, path: string, body: string | undefined, type: string): Promise<RawAnswer> {
    const { address, token } = this.access;
    return new Promise((resolve, reject) => {
      const headers = {
        authorization: `Bearer ${token}`,
        "content-type": type,
        accept: "application/json",
        // Node tells the length of no body that is sent along with DELETE.
        "content-length": Buffer.byteLength(body ?? ""),
      };
      const sent = request(`${address}${path}`, { method, headers, agent: this.agent }, (answer) => {
        const parts: Buffer[] = [];
        answer.on("data", (part: Buffer) => parts.push(part));
        answer.on("error", reject);
        answer.on("end", () => {
          const warnings = String(answer.headers.warning ?? "").match(/(?<=^|, )299 - "(?:[^"\\]|\\.)*"/g) ?? [];
          resolve({ status: answer.statusCode ?? 0, warnings, content: Buffer.concat(parts).toString("utf8") });
        });
      });
      sent.on("error", reject);
      sent.end(body);
    });
  }

  private async pathOf(kind: Kind, where: { name?: string; namespace?: string | undefined }): Promise<string> {
    const root = kind.apiVersion.includes("/") ? `/apis/${kind.apiVersion}` : `/api/${kind.apiVersion}`;
    const resource = (await this.discovered(root)).find((one) => one.kind === kind.kind && !one.name.includes("/"));
    if (resource === undefined) throw new Error(`${kind.apiVersion} has no kind ${kind.kind}`);
    const { name, namespace } = where;
    const space = resource.namespaced && namespace !== undefined ? `/namespaces/${namespace}` : "";
    return `${root}${space}/${resource.name}${name === undefined ? "" : `/${name}`}`;
  }

  private discovered(root: string): Promise<z.infer<typeof resourcesSchema>["resources"]> {
    const known = this.resources.get(root);
    if (known !== undefined) return known;
    const asked = this.call("GET", root).then(({ body }) => resourcesSchema.parse(body).resources);
    this.resources.set(root, asked);
    // A definition that is not served yet is asked for again.
    asked.catch(() => this.resources.delete(root));
    return asked;
  }
}

interface RawAnswer {
  readonly status: number;
  readonly warnings: readonly string[];
  readonly content: string;
}
