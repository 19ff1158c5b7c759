import type { PreviewedResource, Rule, Violation } from "./types.ts";
import { leavesOf } from "./values.ts";

const RULE = "plain-secrets";

/** What Pulumi shows in the place of a secret. */
export const MASKED = "[secret]";
/** What Pulumi shows for a text that is known only after the update. */
export const UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9";

/** Last part of a property's name, or of an environment variable's, that holds a secret and not the name of one. */
const SECRET_NAME =
  /(^|[a-z_-])(secret_?data|passphrase|passwo?r?d|token|api_?key|private_?key|secret_?key|access_?key|credentials?|secret)$/i;

/** Secrets that can be told by their form: Hugging Face, GitHub, Google, AWS, Slack, and private keys. */
const SECRET_FORM =
  /\bhf_[A-Za-z0-9]{30,}|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bAIza[\w-]{35}|\bAKIA[A-Z0-9]{16}\b|\bxox[abp]-[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----|:\/\/[^\s:@/]+:[^\s:@/]+@/;

/** A path to a file, or the name of a secret in Secret Manager: where a secret is, and not what it is. */
const ADDRESS = /^(\/|\.{1,2}\/|projects\/[^/]+\/secrets\/|gs:\/\/)/;

/** A kubeconfig itself, in YAML or JSON, and not the path of one. */
const KUBECONFIG_CONTENT = /\bapiVersion\b/;

/**
 * Whether a value is a secret that anyone can read.
 * @param path where it stands. Example: `envs[3]`, whose value is `NAME=value`.
 */
export function isPlainSecret(path: string, value: unknown): boolean {
  if (typeof value !== "string" || value.includes(MASKED) || value.includes(UNKNOWN)) return false;
  if (SECRET_FORM.test(value)) return true;
  const variable = /\benvs\[\d+\]$/.test(path) ? /^([A-Za-z_]\w*)=([\s\S]*)$/.exec(value) : null;
  const name =
    variable?.[1] ??
    path
      .split(".")
      .at(-1)
      ?.replace(/\[\d+\]$/, "") ??
    path;
  const text = variable?.[2] ?? value;
  if (name === "kubeconfig") return KUBECONFIG_CONTENT.test(text);
  return SECRET_NAME.test(name) && text !== "" && !ADDRESS.test(text);
}

/** A secret is a Pulumi secret or a file that is mounted at run time. */
export const plainSecrets: Rule = {
  name: RULE,
  demands: "no secret stands in plain text in a resource's inputs",
  check: (resources) => resources.filter(({ operation }) => operation !== "delete").flatMap(plainIn),
};

function plainIn({ name, inputs }: PreviewedResource): readonly Violation[] {
  return leavesOf(inputs)
    .filter(({ path, value }) => isPlainSecret(path, value))
    .map(({ path }) => ({
      rule: RULE,
      path: `${name}: ${path}`,
      reason: "holds a secret in plain text: it would be readable in the state and in the cloud's or engine's console",
      remedy:
        "make it a Pulumi secret (pulumi.secret, pulumi config set --secret), or mount it as a file; and replace the secret itself where this was pushed",
    }));
}
