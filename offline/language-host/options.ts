/** What `runtime.options` in Pulumi.yaml may say for Node programs. */
export interface NodeOptions {
  readonly typescript: boolean;
  readonly tsconfig: string | undefined;
  readonly nodeArguments: readonly string[];
  readonly packageManager: "auto" | "npm" | "yarn" | "pnpm" | "bun";
  readonly production: boolean;
}

const packageManagers = ["auto", "npm", "yarn", "pnpm", "bun"] as const;

function option<T>(
  options: Readonly<Record<string, unknown>>,
  name: string,
  is: (value: unknown) => value is T,
  kind: string,
) {
  const value = options[name];
  if (value === undefined) return undefined;
  if (is(value)) return value;
  throw new Error(`Pulumi.yaml: runtime option ${name} must be ${kind}, it is ${JSON.stringify(value)}`);
}

const isBoolean = (value: unknown): value is boolean => typeof value === "boolean";
const isString = (value: unknown): value is string => typeof value === "string";
const isPackageManager = (value: unknown): value is NodeOptions["packageManager"] =>
  packageManagers.some((name) => name === value);

export function parseOptions(options: Readonly<Record<string, unknown>>): NodeOptions {
  const tsconfig = option(options, "tsconfig", isString, "a string");
  return {
    typescript: option(options, "typescript", isBoolean, "a boolean") ?? true,
    tsconfig: tsconfig === "" ? undefined : tsconfig,
    nodeArguments: splitWords(option(options, "nodeargs", isString, "a string") ?? ""),
    packageManager:
      option(options, "packagemanager", isPackageManager, `one of ${packageManagers.join(", ")}`) ?? "auto",
    production: option(options, "production", isBoolean, "a boolean") ?? false,
  };
}

/**
 * Splits a command line into words as a POSIX shell does, without expanding anything: blanks part words, quotes and
 * backslashes keep them together, `#` at the start of a word begins a comment.
 */
export function splitWords(line: string): readonly string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote: "'" | '"' | undefined;
  for (let at = 0; at < line.length; at += 1) {
    const character = line.charAt(at);
    if (quote === "'" || quote === '"') {
      if (character === quote) quote = undefined;
      else if (quote === '"' && character === "\\" && '"\\'.includes(line.charAt(at + 1) || " ")) {
        at += 1;
        word += line.charAt(at);
      } else word += character;
    } else if (character === "'" || character === '"') {
      quote = character;
      word ??= "";
    } else if (character === "\\") {
      at += 1;
      if (at >= line.length) throw new Error(`runtime option nodeargs ends in a backslash: ${line}`);
      word = (word ?? "") + line.charAt(at);
    } else if (/\s/.test(character)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (character === "#" && word === undefined) {
      const end = line.indexOf("\n", at);
      at = end < 0 ? line.length : end;
    } else word = (word ?? "") + character;
  }
  if (quote !== undefined) throw new Error(`runtime option nodeargs has an unclosed quote: ${line}`);
  if (word !== undefined) words.push(word);
  return words;
}
