import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { LineCounter, parseDocument } from "yaml";
import { DEFAULTS, SAMPLE_DATA } from "./defaults.ts";
import { isRecord, type Layer, type RawSettings } from "./layers.ts";
import { type Located, locateData, locateModel, locateTemplate } from "./located.ts";
import { type MachineFacts, PERSONAL_FOLDER, readMachineFacts } from "./machine.ts";
import { type Problem, SettingsError, showValue } from "./problems.ts";
import { resolveSettings } from "./resolve.ts";
import { type Settings, type SettingsOf, type TargetKind, TOP_LEVEL_KEYS } from "./schema.ts";

/** Secrets that services read as files under `/run/secrets`. */
export const SECRET_NAMES = [
  "jupyter-token",
  "hf-token",
  "wandb-api-key",
  "restic-password",
  "git-token",
  "git-ssh-key",
  "git-known-hosts",
  "webhook-url",
] as const;
export type SecretName = (typeof SECRET_NAMES)[number];

/** Secrets that set-up makes where there are none; the others come from their owners. */
export const GENERATED_SECRETS: readonly SecretName[] = ["jupyter-token", "restic-password"];

/** Everything that a stack is declared from. Nothing else in the project has hidden inputs. */
export interface StackInputs {
  readonly stack: string;
  /** Absolute folder of the project. */
  readonly projectDir: string;
  readonly settings: Settings;
  /** For each leaf's path, such as `services.jupyter.port`, where its value came from. */
  readonly sources: ReadonlyMap<string, string>;
  readonly machine: MachineFacts;
  /** Where the run's data is; the committed sample where the settings name none. */
  readonly data: Located;
  /** Where the run's model is; undefined leaves it to the preset. */
  readonly model: Located | undefined;
  /** Where the chat template is that a setting of the run names; undefined leaves it to the tokenizer. */
  readonly template: Located | undefined;
  /** Absolute path of each secret that is set. */
  readonly secretFiles: Readonly<Partial<Record<SecretName, string>>>;
}

/** What a stack of one target is declared from. */
export type InputsOf<Target extends TargetKind> = StackInputs & { readonly settings: SettingsOf<Target> };

export function hasTarget<Target extends TargetKind>(inputs: StackInputs, target: Target): inputs is InputsOf<Target> {
  return inputs.settings.target === target;
}

/** The inputs, known to be of one target; for use where that was looked at before. */
export function ofTarget<Target extends TargetKind>(inputs: StackInputs, target: Target): InputsOf<Target> {
  if (hasTarget(inputs, target)) return inputs;
  throw new Error(`the stack ${inputs.stack} is of the target ${inputs.settings.target} and not ${target}`);
}

export interface LoadOptions {
  readonly projectDir: string;
  readonly stack: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Pulumi's own configuration, as `tunestack:key` → text; without it the personal stack file is read. */
  readonly pulumiConfig?: Readonly<Record<string, string>>;
  /** Stands above every other layer: what a command is about to set, checked before it is written. */
  readonly override?: Layer;
}

const NAMESPACE = "tunestack:";

/**
 * Reads the layers of settings (defaults, `Pulumi.<stack>.yaml`, Pulumi's personal configuration, environment).
 * @throws SettingsError with every problem found.
 */
export function loadStack(options: LoadOptions): StackInputs {
  const { projectDir, stack } = options;
  const layers = settingsLayers(options);
  const { settings, sources } = resolveSettings(layers);
  checkCertificate(projectDir, settings.image.caCertificate);
  if (settings.target === "gcp-vm") checkNotebook(projectDir, settings.gcp.colab.schedule?.notebook);
  return {
    stack,
    projectDir: resolve(projectDir),
    settings,
    sources,
    machine: readMachineFacts(projectDir),
    data: locateData(projectDir, settings.training.data ?? SAMPLE_DATA),
    model: settings.training.model === undefined ? undefined : locateModel(projectDir, settings.training.model),
    template: locateTemplate(projectDir, settings.training.set.chat_template),
    secretFiles: findSecrets(projectDir, stack),
  };
}

function checkCertificate(projectDir: string, given: string | undefined): void {
  if (given === undefined || existsSync(resolve(projectDir, given))) return;
  throw new SettingsError([
    {
      path: "image.caCertificate",
      value: showValue(given),
      reason: "there is no such file",
      remedy: "give the PEM file of the certificate that your proxy signs with",
    },
  ]);
}

function checkNotebook(projectDir: string, given: string | undefined): void {
  if (given === undefined || existsSync(resolve(projectDir, given))) return;
  throw new SettingsError([
    {
      path: "gcp.colab.schedule.notebook",
      value: showValue(given),
      reason: "there is no such file",
      remedy: "name the .ipynb file that is to be run, relative to the project",
    },
  ]);
}

export function stackFile(projectDir: string, stack: string): string {
  return join(projectDir, `Pulumi.${stack}.yaml`);
}

/** Pulumi's own stack file (`stackConfigDir`): this person's settings and the salt of their secrets. */
export function personalStackFile(projectDir: string, stack: string): string {
  return join(projectDir, PERSONAL_FOLDER, "stacks", `Pulumi.${stack}.yaml`);
}

export function secretsFolder(projectDir: string, stack: string): string {
  return join(projectDir, PERSONAL_FOLDER, "secrets", stack);
}

function settingsLayers({ projectDir, stack, environment, pulumiConfig, override }: LoadOptions): Layer[] {
  const layers: Layer[] = [];
  const shared = stackFile(projectDir, stack);
  if (existsSync(shared)) layers.push({ source: `Pulumi.${stack}.yaml`, values: readStackFile(shared) });
  const personal = personalStackFile(projectDir, stack);
  const source = "pulumi config";
  if (pulumiConfig !== undefined) layers.push({ source, values: ownKeys(pulumiConfig) });
  else if (existsSync(personal)) layers.push({ source, values: readStackFile(personal) });
  const engine = environment.DOCKER_HOST;
  // It says where this machine's engine is, which another target has nothing to do with.
  if (engine !== undefined && engine !== "" && targetIn(layers) === "docker")
    layers.push({ source: "DOCKER_HOST", values: { docker: { host: engine } } });
  const kubeconfig = environment.KUBECONFIG;
  if (kubeconfig !== undefined && kubeconfig !== "" && targetIn(layers) === "kubernetes")
    layers.push({ source: "KUBECONFIG", values: { kubernetes: { kubeconfig } } });
  if (override !== undefined) layers.push(override);
  return layers;
}

function targetIn(layers: readonly Layer[]): unknown {
  return layers.findLast(({ values }) => values.target !== undefined)?.values.target ?? DEFAULTS.target;
}

/** The `tunestack:` keys of a Pulumi stack file. */
function readStackFile(file: string): RawSettings {
  const lines = new LineCounter();
  const document = parseDocument(readFileSync(file, "utf8"), { lineCounter: lines });
  if (document.errors.length > 0) {
    throw new SettingsError(
      document.errors.map((error) => ({
        path: `${file}:${lines.linePos(error.pos[0]).line}`,
        reason: error.message.split("\n")[0] ?? "is not YAML",
        remedy: "mend the YAML at this line",
      })),
    );
  }
  const content: unknown = document.toJS();
  const config = isRecord(content) ? content.config : undefined;
  if (config === undefined || config === null) return {};
  if (!isRecord(config)) {
    throw new SettingsError([
      {
        path: `${file}: config`,
        value: showValue(config),
        reason: "is not a map",
        remedy: "write tunestack:KEY: VALUE pairs",
      },
    ]);
  }
  return ownKeys(config);
}

/**
 * Pulumi hands objects and lists over as JSON, scalars as text; its stack file holds a list that was set without --path as
 * text, too.
 */
function fromText(value: unknown): unknown {
  if (typeof value !== "string" || !/^\s*[[{]/.test(value)) return value;
  try {
    return JSON.parse(value) as unknown;
  } catch {
    // Somebody's text that begins with a bracket; the schema says what is wrong with it.
    return value;
  }
}

function ownKeys(config: Readonly<Record<string, unknown>>): RawSettings {
  const problems: Problem[] = [];
  const values: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(config)) {
    if (!key.startsWith(NAMESPACE)) continue;
    const name = key.slice(NAMESPACE.length);
    // `pulumi config set tunestack:services.jupyter.port 8889` without --path makes one key with dots in it.
    const root = name.split(".")[0] ?? name;
    if (name.includes(".") && TOP_LEVEL_KEYS.includes(root)) {
      problems.push({
        path: name,
        value: showValue(value),
        reason: "was set as one key with dots in its name",
        remedy: `npx pulumi config rm '${key}' && npx pulumi config set --path '${key}' VALUE`,
      });
    }
    values[name] = fromText(value);
  }
  if (problems.length > 0) throw new SettingsError(problems);
  return values;
}

function findSecrets(projectDir: string, stack: string): Partial<Record<SecretName, string>> {
  const folder = resolve(secretsFolder(projectDir, stack));
  const found: Partial<Record<SecretName, string>> = {};
  for (const name of SECRET_NAMES) {
    const file = join(folder, name);
    if (existsSync(file)) found[name] = file;
  }
  return found;
}
