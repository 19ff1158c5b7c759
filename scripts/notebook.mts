import { existsSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseSettings } from "./lib/assignments.ts";
import { EXIT, runCommand, UserError, usageError } from "./lib/errors.ts";
import { cloneAddress, ownAddress } from "./lib/notebooks/addresses.ts";
import { daemonNotebook } from "./lib/notebooks/daemon.ts";
import { type Notebook, notebookText } from "./lib/notebooks/document.ts";
import { DEFAULT_LINKS, trainNotebook } from "./lib/notebooks/train.ts";
import { type Parsed, parseCommand } from "./lib/options.ts";

const SPEC = {
  name: "notebook",
  summary:
    "For Google Colab. `daemon` writes a notebook that runs the experiments of a git branch; `train` one that trains with\nany repository's own command and keeps weights, data and checkpoints on Drive; `local` opens this machine's Jupyter to Colab's\npages and prints the address to paste there.",
  operands: { names: "daemon|train|local", atMost: 1, help: "which notebook, or the local session" },
  options: {
    out: { type: "string", value: "FILE", help: "default: colab_gpu_daemon.ipynb or colab_train.ipynb" },
    force: { type: "boolean", help: "writes over a file that is there" },
    tools: {
      type: "string",
      value: "URL",
      help: "tunestack's repository as Colab reaches it (default: that of origin)",
    },
    repo: {
      type: "string",
      value: "URL",
      help: "repository that trains, or whose branch is the queue (default: tunestack)",
    },
    branch: { type: "string", value: "NAME", help: "daemon: branch of the queue (default: gpu-experiments)" },
    command: { type: "string", value: "COMMAND", help: "the command, such as 'python train.py --epochs 3'" },
    resume: {
      type: "string",
      value: "WORDS",
      help: "added where there is a checkpoint: '--resume {checkpoint}'",
    },
    link: {
      type: "string",
      value: "A,B,C",
      help: `folders kept on Drive (default: ${DEFAULT_LINKS.join(",")})`,
    },
    checkpoints: {
      type: "string",
      value: "FOLDER",
      help: "which of them has the checkpoints (default: checkpoints)",
    },
    needs: { type: "string", value: "FOLDER", help: "where requirements.txt, pyproject.toml or env.yaml is" },
    extra: { type: "string", multiple: true, value: "NAME", help: "optional dependencies; may be repeated" },
    name: { type: "string", value: "NAME", help: "name of the run or of the exported model" },
    preset: { type: "string", value: "PRESET", help: "of tunestack's own training (default: gemma-2b)" },
    data: { type: "string", value: "PATH", help: "data of tunestack's own training, within the clone" },
    set: { type: "string", multiple: true, value: "KEY=VALUE", help: "a setting of tunestack's own training" },
  },
  examples: [
    "npm run notebook -- daemon --repo https://host.example/me/work.git",
    "npm run notebook -- train --preset gemma-2b --data data/notes.jsonl",
    "npm run notebook -- train --repo https://host.example/me/vision.git --command 'python train.py' --link weights,data,runs --checkpoints runs",
  ],
} as const;

const FILES = { daemon: "colab_gpu_daemon.ipynb", train: "colab_train.ipynb" } as const;
type Kind = keyof typeof FILES;

const write: Readonly<Record<Kind, (options: Parsed) => Promise<Notebook>>> = {
  daemon: async (options) => {
    const tools = await toolsOf(options);
    return daemonNotebook({
      tools,
      repository: addressOf(options, "repo") ?? tools,
      branch: options.text("branch") ?? "gpu-experiments",
    });
  },
  train: async (options) => {
    const repository = addressOf(options, "repo");
    const command = options.text("command");
    checkTogether(repository, command, options);
    const links = options.text("link")?.split(",") ?? [...DEFAULT_LINKS, ...(command === undefined ? ["logs"] : [])];
    return trainNotebook({
      tools: await toolsOf(options),
      repository,
      needs: options.text("needs") ?? (command === undefined ? "images/qlora" : "."),
      extras: options.list("extra").length > 0 || command !== undefined ? options.list("extra") : ["cu126"],
      command,
      resume: options.text("resume") ?? "",
      links,
      checkpoints: options.text("checkpoints") ?? "checkpoints",
      run: options.text("name") ?? "colab",
      preset: options.text("preset") ?? "gemma-2b",
      data: options.text("data") ?? "examples/data/tunestack-help.jsonl",
      set: parseSettings(options.list("set")),
    });
  },
};

await runCommand(async () => {
  const options = parseCommand(SPEC);
  if (options.operands[0] === "local") {
    const { openLocalSession } = await import("./lib/notebooks/local.ts");
    await openLocalSession(options.stack);
    return;
  }
  const kind = kindOf(options.operands[0]);
  const file = resolve(process.env.INIT_CWD ?? ".", options.text("out") ?? FILES[kind]);
  if (existsSync(file) && !options.flag("force")) {
    throw new UserError(
      [{ path: file, reason: "is there already", remedy: "give another --out, or --force to write over it" }],
      EXIT.refused,
      "request",
    );
  }
  writeFileSync(file, notebookText(await write[kind](options)));
  console.log(`${file}\nOpen it in Colab: https://colab.research.google.com → File → Upload notebook`);
});

function kindOf(word: string | undefined): Kind {
  if (word === "daemon" || word === "train") return word;
  throw usageError({
    path: "npm run notebook",
    value: word,
    reason: word === undefined ? "does not say which notebook" : "is no notebook",
    remedy: "use one of: daemon, train, local",
  });
}

/** A repository of somebody else's needs its own command, and a command its repository; the rest is ours alone. */
function checkTogether(repository: string | undefined, command: string | undefined, options: Parsed): void {
  const ours = ["preset", "data"].filter((name) => options.text(name) !== undefined);
  const problems = [
    ...(repository !== undefined && command === undefined
      ? [{ path: "--repo", reason: "comes without a command", remedy: "add --command 'python train.py …'" }]
      : []),
    ...(repository === undefined && command !== undefined
      ? [{ path: "--command", reason: "comes without a repository", remedy: "add --repo URL" }]
      : []),
    ...(command === undefined ? [] : [...ours, ...(options.list("set").length > 0 ? ["set"] : [])]).map((name) => ({
      path: `--${name}`,
      reason: "is for tunestack's own training, and --command names another",
      remedy: "write it into the command, or leave --repo and --command out",
    })),
    ...checkpointProblems(options, command),
  ];
  if (problems.length > 0) throw new UserError(problems, EXIT.settings, "command line");
}

/** What is not on Drive is lost with the session. */
function checkpointProblems(options: Parsed, command: string | undefined) {
  const links = options.text("link")?.split(",") ?? DEFAULT_LINKS;
  const folder = options.text("checkpoints") ?? "checkpoints";
  if (command === undefined || links.some((link) => folder === link || folder.startsWith(`${link}/`))) return [];
  return [
    {
      path: "--checkpoints",
      value: folder,
      reason: `is in none of the folders that are kept on Drive (${links.join(", ")}), so a cut-off session would lose it`,
      remedy: "name the folder that the command saves into, and have it in --link",
    },
  ];
}

async function toolsOf(options: Parsed): Promise<string> {
  return addressOf(options, "tools") ?? (await ownAddress());
}

function addressOf(options: Parsed, name: string): string | undefined {
  const given = options.text(name);
  return given === undefined ? undefined : cloneAddress(given, `--${name}`);
}
