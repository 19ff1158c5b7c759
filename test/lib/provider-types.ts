import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";

/** A field of a provider's arguments, as its package declares it. */
interface Field {
  readonly documentation: string;
  /** Where its own fields are declared, such as `compute.RouterNatSubnetwork`; undefined for a plain value. */
  readonly fields: string | undefined;
}

type Fields = ReadonlyMap<string, Field>;

/**
 * The declarations of a Pulumi package, from its files for the compiler. The compiler takes every text for an enumeration,
 * whose values stand in the documentation alone.
 */
export class ProviderTypes {
  readonly #folder: string;
  readonly #nested: string;
  readonly #known = new Map<string, Fields>();

  constructor(readonly provider: string) {
    this.#folder = join(PROJECT_DIR, "node_modules", "@pulumi", provider);
    this.#nested = readFileSync(join(this.#folder, "types", "input.d.ts"), "utf8");
  }

  /**
   * What the package does not take of a resource's inputs, a line each: a name that it does not know, a value that is none
   * of the enumeration, a field that it calls deprecated.
   * @param type Example: `gcp:compute/network:Network`.
   */
  refusals(type: string, inputs: unknown): readonly string[] {
    return this.#refused(type, this.#argumentsOf(type), inputs);
  }

  #refused(path: string, fields: Fields, value: unknown): readonly string[] {
    if (Array.isArray(value)) return value.flatMap((item, index) => this.#refused(`${path}[${index}]`, fields, item));
    if (typeof value !== "object" || value === null) return [];
    return Object.entries(value).flatMap(([name, item]) => {
      const field = fields.get(name);
      const here = `${path}.${name}`;
      if (field === undefined) return [`${here}: no such field`];
      const said = /@deprecated/.test(field.documentation) ? [`${here}: deprecated`] : [];
      if (field.fields !== undefined) return [...said, ...this.#refused(here, this.#fieldsOf(field.fields), item)];
      return [...said, ...wrongValues(here, field.documentation, item)];
    });
  }

  #argumentsOf(type: string): Fields {
    const [, module = "", name = ""] = type.split(":");
    // `projects/iAMMember` stands in `projects/iammember.d.ts`.
    const folder = join(this.#folder, dirname(module));
    const wanted = `${basename(module)}.d.ts`.toLowerCase();
    const file = readdirSync(folder).find((one) => one.toLowerCase() === wanted);
    if (file === undefined) throw new Error(`${type} is nothing of @pulumi/${this.provider}`);
    return readFields(between(readFileSync(join(folder, file), "utf8"), `export interface ${name}Args {`, "\n}"));
  }

  #fieldsOf(qualified: string): Fields {
    const known = this.#known.get(qualified);
    if (known !== undefined) return known;
    const [namespace = "", name = ""] = qualified.split(".");
    const inside = between(this.#nested, `export declare namespace ${namespace} {`, "\n}");
    const fields = readFields(between(inside, `interface ${name} {`, "\n    }"));
    this.#known.set(qualified, fields);
    return fields;
  }
}

function between(text: string, begin: string, end: string): string {
  const from = text.indexOf(begin);
  if (from < 0) throw new Error(`there is no ${begin}`);
  return text.slice(from + begin.length, text.indexOf(end, from));
}

function readFields(body: string): Fields {
  const found = body.matchAll(/(?:\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*)?^\s+(\w+)\??: (pulumi[^;]+);/gm);
  return new Map(
    [...found].map(([, documentation = "", name = "", type = ""]) => [
      name,
      { documentation: documentation.replaceAll(/\n\s*\*/g, " "), fields: /inputs\.(\w+\.\w+)/.exec(type)?.[1] },
    ]),
  );
}

/** Values of an enumeration are in capitals. */
function wrongValues(path: string, documentation: string, value: unknown): readonly string[] {
  const begin = documentation.search(/(possible|valid|supported|allowed) values|specify either/i);
  if (begin < 0) return [];
  const allowed = new Set(documentation.slice(begin).match(/\b[A-Z][A-Z0-9_]+\b/g) ?? []);
  if (allowed.size < 2) return [];
  const values: readonly unknown[] = Array.isArray(value) ? value : [value];
  return values
    .filter((one) => typeof one === "string" && !allowed.has(one))
    .map((one) => `${path}: ${String(one)} is none of ${[...allowed].sort().join(", ")}`);
}
