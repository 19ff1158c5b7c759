import { type ParseArgsConfig, parseArgs } from "node:util";
import { EXIT, UserError, usageError } from "./errors.ts";
import { DEFAULT_STACK } from "./project.ts";

export interface OptionSpec {
  readonly type: "string" | "boolean";
  /** Given more than once. */
  readonly multiple?: boolean;
  /** Shown behind the name in the help. Example: `PATH`. */
  readonly value?: string;
  readonly help: string;
}

export interface CommandSpec {
  /** Name as in `npm run NAME`. */
  readonly name: string;
  /** What it does, one or two lines. */
  readonly summary: string;
  readonly options?: Readonly<Record<string, OptionSpec>>;
  /** Words after the options. Example: `SERVICE`. */
  readonly operands?: { readonly names: string; readonly atMost: number; readonly help: string };
  /** Prints an object with --json. */
  readonly json?: boolean;
  readonly examples?: readonly string[];
}

export interface Parsed {
  readonly stack: string;
  readonly json: boolean;
  readonly operands: readonly string[];
  readonly text: (name: string) => string | undefined;
  readonly list: (name: string) => readonly string[];
  readonly flag: (name: string) => boolean;
}

const COMMON: Readonly<Record<string, OptionSpec>> = {
  stack: { type: "string", value: "NAME", help: `stack to work on (default: ${DEFAULT_STACK}; environment: STACK)` },
  help: { type: "boolean", help: "prints this" },
};

/** Parses what was typed; prints the help and leaves where it was asked for. */
export function parseCommand(spec: CommandSpec, argv: readonly string[] = process.argv.slice(2)): Parsed {
  const options = allOptions(spec);
  if (argv.includes("--help") || argv.includes("-h")) {
    console.log(helpText(spec));
    process.exit(0);
  }
  const { values, positionals } = parse(spec, options, argv);
  const atMost = spec.operands?.atMost ?? 0;
  if (positionals.length > atMost) {
    throw usageError({
      path: `npm run ${spec.name}`,
      value: positionals[atMost],
      reason: atMost === 0 ? "takes no words beside its options" : `takes at most ${atMost} of ${spec.operands?.names}`,
      remedy: `npm run ${spec.name} -- --help`,
    });
  }
  return {
    stack: typeof values.stack === "string" ? values.stack : (process.env.STACK ?? DEFAULT_STACK),
    json: values.json === true,
    operands: positionals,
    text: (name) => (typeof values[name] === "string" ? values[name] : undefined),
    list: (name) => (Array.isArray(values[name]) ? values[name].map(String) : []),
    flag: (name) => values[name] === true,
  };
}

function allOptions(spec: CommandSpec): Readonly<Record<string, OptionSpec>> {
  const json: Record<string, OptionSpec> =
    spec.json === true ? { json: { type: "boolean", help: "prints one JSON object" } } : {};
  return { ...spec.options, ...json, ...COMMON };
}

type ParsedValues = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>;

function parse(
  spec: CommandSpec,
  options: Readonly<Record<string, OptionSpec>>,
  argv: readonly string[],
): { values: ParsedValues; positionals: readonly string[] } {
  const config: NonNullable<ParseArgsConfig["options"]> = {};
  for (const [name, { type, multiple }] of Object.entries(options))
    config[name] = { type, multiple: multiple ?? false };
  try {
    const { values, positionals } = parseArgs({ args: [...argv], options: config, allowPositionals: true });
    return { values, positionals };
  } catch (error) {
    const reason = error instanceof Error ? (error.message.split(". To specify")[0] ?? error.message) : String(error);
    throw new UserError(
      [{ path: `npm run ${spec.name}`, reason, remedy: `npm run ${spec.name} -- --help` }],
      EXIT.settings,
      "command line",
    );
  }
}

/** The help of a command as it is printed. */
export function helpText(spec: CommandSpec): string {
  const rows = Object.entries(allOptions(spec)).map(([name, option]) => ({
    left: `--${name}${option.type === "string" ? ` ${option.value ?? "TEXT"}` : ""}`,
    help: option.help,
  }));
  const width = Math.max(...rows.map(({ left }) => left.length));
  const operands = spec.operands === undefined ? "" : ` [${spec.operands.names}]`;
  return [
    `npm run ${spec.name} -- [options]${operands}`,
    "",
    spec.summary,
    "",
    ...(spec.operands === undefined ? [] : [`  ${spec.operands.names.padEnd(width)}  ${spec.operands.help}`]),
    ...rows.map(({ left, help }) => `  ${left.padEnd(width)}  ${help}`),
    ...(spec.examples === undefined ? [] : ["", "Examples:", ...spec.examples.map((example) => `  ${example}`)]),
  ].join("\n");
}
