import type { PreviewedResource, Rule, Violation } from "./types.ts";
import { isTree, textsIn } from "./values.ts";

const RULE = "broad-identity";

/** Machines that act by an account of Google's, wherever their inputs name it. */
const ACTS =
  /^gcp:(compute\/(instance|instanceTemplate|regionInstanceTemplate)|container\/(nodePool|cluster)|colab\/(runtimeTemplate|schedule|runtime)):/;

/** The accounts that Google makes by itself; each may edit the whole project. */
const DEFAULT_ACCOUNT = /^(default|\d+-compute@developer\.gserviceaccount\.com|[^@]+@appspot\.gserviceaccount\.com)$/;

/** Roles over everything in a project, and over who may do what in it. */
const BROAD_ROLE = /^roles\/(owner|editor|viewer|iam\.securityAdmin|resourcemanager\.projectIamAdmin)$/;

const EVERYBODY = new Set(["allUsers", "allAuthenticatedUsers"]);

const SCOPE = "https://www.googleapis.com/auth/";
/** With an account of its own, whose roles say what it may, `cloud-platform` is what Google advises; others grant more. */
const BROAD_SCOPES = new Set(["compute", "devstorage.full_control", "sqlservice.admin"]);

/** What acts in the cloud acts by an account of its own, with roles for what it does. */
export const broadIdentity: Rule = {
  name: RULE,
  demands: "machines have an account of their own, and no role over a whole project; nothing is granted to everybody",
  check: (resources) =>
    resources
      .filter(({ operation }) => operation !== "delete")
      .flatMap((resource) => [...accountOf(resource), ...scopesOf(resource), ...rolesOf(resource)]),
};

function accountOf({ name, type, inputs }: PreviewedResource): readonly Violation[] {
  if (!ACTS.test(type)) return [];
  return holders(type, inputs).flatMap(({ path, account }): Violation[] => {
    // What is known only after the update is an account that the stack makes.
    if (typeof account === "string" && account !== "" && !DEFAULT_ACCOUNT.test(account)) return [];
    return [
      {
        rule: RULE,
        path: `${name}: ${path}`,
        value:
          typeof account === "string" && account !== "" ? account : "not set, which is the project's default account",
        reason: "the default account may edit everything in the project, and so may whoever gets onto the machine",
        remedy: "make a gcp.serviceaccount.Account with the roles that it needs, and name it here",
      },
    ];
  });
}

interface Holder {
  readonly path: string;
  readonly account: unknown;
}

function holders(type: string, inputs: PreviewedResource["inputs"]): readonly Holder[] {
  if (type.startsWith("gcp:container/nodePool:")) return [nodeAccount("nodeConfig", inputs.nodeConfig)];
  // A cluster whose first nodes are removed at once has no account of its own to name.
  if (type.startsWith("gcp:container/cluster:"))
    return inputs.removeDefaultNodePool === true || inputs.enableAutopilot === true
      ? []
      : [nodeAccount("nodeConfig", inputs.nodeConfig)];
  if (type.startsWith("gcp:colab/schedule:")) {
    const job = property(inputs.createNotebookExecutionJobRequest, "notebookExecutionJob");
    return [{ path: "createNotebookExecutionJobRequest…serviceAccount", account: property(job, "serviceAccount") }];
  }
  // A Colab runtime acts as the person who uses it.
  if (type.startsWith("gcp:colab/")) return [];
  // A machine without an account may do nothing; one with a nameless account gets the default one.
  return inputs.serviceAccount === undefined
    ? []
    : [{ path: "serviceAccount.email", account: property(inputs.serviceAccount, "email") }];
}

function nodeAccount(path: string, config: unknown): Holder {
  return { path: `${path}.serviceAccount`, account: property(config, "serviceAccount") };
}

function property(value: unknown, name: string): unknown {
  return isTree(value) ? value[name] : undefined;
}

function scopesOf({ name, type, inputs }: PreviewedResource): readonly Violation[] {
  if (!ACTS.test(type)) return [];
  const given = [
    { path: "serviceAccount.scopes", scopes: textsIn(property(inputs.serviceAccount, "scopes")) },
    { path: "nodeConfig.oauthScopes", scopes: textsIn(property(inputs.nodeConfig, "oauthScopes")) },
  ];
  return given.flatMap(({ path, scopes }) => {
    const broad = scopes.filter((scope) => BROAD_SCOPES.has(scope.replace(SCOPE, "")));
    if (broad.length === 0) return [];
    return [
      {
        rule: RULE,
        path: `${name}: ${path}`,
        value: broad.join(", "),
        reason: "lets every program on the machine change what the scope names, all over the project",
        remedy: "give the scope cloud-platform alone, and to the account the roles that it needs",
      },
    ];
  });
}

/** Grants of roles: to a project, a bucket, a secret, an account. */
function rolesOf({ name, type, inputs }: PreviewedResource): readonly Violation[] {
  if (!/^gcp:.*(IAM|Iam)(Member|Binding)$/.test(type)) return [];
  const members = [...textsIn(inputs.members), ...(typeof inputs.member === "string" ? [inputs.member] : [])];
  const everybody = members.filter((member) => EVERYBODY.has(member));
  const broad = type.startsWith("gcp:projects/") && BROAD_ROLE.test(String(inputs.role));
  return [
    ...(everybody.length === 0
      ? []
      : [
          {
            rule: RULE,
            path: `${name}: member`,
            value: everybody.join(", "),
            reason: "is everybody on the internet, with an account of Google's or without",
            remedy: "name the people, groups or accounts that need it",
          },
        ]),
    ...(broad
      ? [
          {
            rule: RULE,
            path: `${name}: role`,
            value: String(inputs.role),
            reason: "is a role over the whole project",
            remedy: "give the role for what is done, on the thing that it is done to",
          },
        ]
      : []),
  ];
}
