import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { chalk } from "zx";
import { EXIT, runCommand, UserError, usageError } from "./lib/errors.ts";
import { type Published, publish, type Queue } from "./lib/experiments/branch.ts";
import { cancel, retry, type StatusChange } from "./lib/experiments/change-status.ts";
import { printLog } from "./lib/experiments/follow-log.ts";
import { queueDirectory, queueOf } from "./lib/experiments/queue.ts";
import { formatOutputs, formatStatus, formatSummary } from "./lib/experiments/report.ts";
import { type Job, lastLines, readState } from "./lib/experiments/state.ts";
import { type Added, addExperiments, experimentsOfFile, typedExperiment } from "./lib/experiments/submit.ts";
import { drawSweeps, type LocalBranch, mergeLocalBranch, saveResults } from "./lib/experiments/sync.ts";
import { requireQueue, toProblem } from "./lib/experiments/validate.ts";
import { type Parsed, parseCommand } from "./lib/options.ts";
import { PERSONAL_DIR } from "./lib/project.ts";

const ACTIONS = ["submit", "status", "sync", "cancel", "retry", "logs", "check", "serve"] as const;
type Action = (typeof ACTIONS)[number];

const SPEC = {
  name: "experiment",
  summary:
    "Experiments through git: submit pushes one to the branch that runners listen on, status and logs tell how it goes, sync\nbrings results here. serve lets this stack run what is pushed. Your working tree and index stay as they are. Format: docs/experiment-queue.md",
  operands: { names: `${ACTIONS.join("|")} [NAME…]`, atMost: 101, help: "what to do, and with which experiments" },
  options: {
    command: { type: "string", value: "COMMAND", help: "submit: what runs; {KEY} stands for a value of the matrix" },
    from: { type: "string", value: "FILE", help: "submit: experiments of a JSON file, one or a list" },
    matrix: { type: "string", multiple: true, value: "KEY=A,B", help: "submit: a sweep; once for each key" },
    needs: { type: "string", value: "A,B", help: "submit: experiments that have to be completed first" },
    timeout: { type: "string", value: "TIME", help: "submit: such as 90m (default: 1h)" },
    gpus: { type: "string", value: "N", help: "submit: GPUs for itself (default: 1; 0: none)" },
    retries: { type: "string", value: "N", help: "submit: how often it is tried again (default: 0)" },
    description: { type: "string", value: "TEXT", help: "submit: for people" },
    preset: { type: "string", value: "PRESET", help: "submit: a run of tunestack instead of a command" },
    model: { type: "string", value: "ID_OR_PATH", help: "submit: base model of that run" },
    data: { type: "string", value: "PATH", help: "submit: data of that run" },
    set: { type: "string", multiple: true, value: "KEY=VALUE", help: "submit: a setting of that run; may be repeated" },
    to: { type: "string", value: "FOLDER", help: "sync: where results go (default: .tunestack/experiments)" },
    follow: { type: "boolean", help: "logs: goes on until it ends" },
    branch: { type: "string", value: "NAME", help: "branch of the queue (default: the setting experiments.branch)" },
    remote: {
      type: "string",
      value: "NAME_OR_URL",
      help: "its repository (default: experiments.repository, or origin)",
    },
    directory: { type: "string", value: "PATH", help: "clone whose commit is run (default: where you are)" },
  },
  json: true,
  examples: [
    "npm run experiment -- submit first --command 'python train.py --lr 1e-4' --timeout 2h",
    "npm run experiment -- submit sweep --command 'python train.py --lr {lr}' --matrix lr=1e-4,2e-4,5e-4",
    "npm run experiment -- submit tuned --preset gemma-2b --data data/notes.jsonl --set max_steps=200",
    "npm run experiment -- logs sweep.lr-0.0001 --follow",
    "GIT_TOKEN=… npm run experiment -- serve --remote https://host.example/me/work.git",
  ],
} as const;

interface Asked {
  readonly names: readonly string[];
  readonly options: Parsed;
}

interface Answer {
  readonly text: string;
  readonly value: unknown;
}

const ANSWERS: Readonly<Record<Action, (asked: Asked) => Promise<Answer>>> = {
  submit,
  status,
  sync,
  cancel: async (asked) => await changeStatus(asked, "cancel", cancel),
  retry: async (asked) => await changeStatus(asked, "retry", retry),
  logs,
  check: async ({ names }) => checkFile(names),
  serve: async ({ options }) => {
    // Pulumi is loaded for this alone.
    const { serveQueue } = await import("./lib/experiments/serve.ts");
    const text = await serveQueue(options.stack, queueOf(options));
    return { text, value: { stack: options.stack } };
  },
};

await runCommand(async () => {
  const options = parseCommand(SPEC);
  const [word, ...names] = options.operands;
  const action = ACTIONS.find((each) => each === word);
  if (action === undefined) {
    throw usageError({
      path: "npm run experiment",
      value: word,
      reason: word === undefined ? "does not say what to do" : "is nothing that it can do",
      remedy: `use one of: ${ACTIONS.join(", ")}`,
    });
  }
  const { text, value } = await ANSWERS[action]({ names, options });
  console.log(options.json ? JSON.stringify(value, null, 2) : text);
});

async function submit({ names, options }: Asked): Promise<Answer> {
  const file = options.text("from");
  const [name, ...more] = names;
  if ((name === undefined) === (file === undefined) || more.length > 0) {
    const reason = file === undefined ? "takes one name" : "takes names from the file, and none beside it";
    throw usageError({
      path: "npm run experiment -- submit",
      value: names.length === 0 ? undefined : names.join(" "),
      reason,
      remedy: SPEC.examples[0],
    });
  }
  const added = file === undefined ? [typedExperiment(name ?? "", options)] : experimentsOfFile(readGiven(file), file);
  const queue = queueOf(options);
  const code = await queue.git.text(["rev-parse", "--verify", "HEAD^{commit}"], { what: "find your commit" });
  const dirty = await queue.git.text(["--no-optional-locks", "status", "--porcelain", "--untracked-files=no"]);
  let last: Added = { entries: [], others: [] };
  const edit = (entries: readonly unknown[]) => {
    last = addExperiments(entries, added);
    return last.entries;
  };
  const submitted = added.map((each) => String(each.name));
  const published = await publish(queue, { message: `Submit ${submitted.join(", ")}`, code, edit });
  if (dirty !== "")
    warn(`${dirty.split("\n").length} files have changes that are not committed: they are not in what runs`);
  for (const problem of last.others) {
    const { path, reason } = toProblem(problem, "experiments.json");
    warn(`${path} ${reason}: it will not run`);
  }
  return {
    text: `submitted ${submitted.join(", ")} to ${queue.branch} (${published.commit.slice(0, 10)})\ncode: ${published.code}`,
    value: { submitted, branch: queue.branch, ...published },
  };
}

async function status({ options }: Asked): Promise<Answer> {
  const queue = queueOf(options);
  const state = await readState(queue);
  return { text: formatStatus(state, lastLines(queue, state)), value: state };
}

async function sync({ options }: Asked): Promise<Answer> {
  const queue = queueOf(options);
  const before = await readState(queue);
  const local = await mergeLocalBranch(queue, before.commit);
  const state = local.kind === "merged" ? await readState(queue) : before;
  const folder = resolve(queueDirectory(), options.text("to") ?? join(PERSONAL_DIR, "experiments"));
  const saved = await saveResults(queue, state, folder);
  const pictures = await drawSweeps(state.jobs, folder);
  const lines = [
    localText(local, queue),
    `${saved} files of results are new in ${folder}`,
    "",
    formatOutputs(state.jobs),
    "",
    formatSummary(state),
    ...pictures.map((file) => `picture: ${file}`),
  ];
  return {
    text: lines.filter((line) => line !== undefined).join("\n"),
    value: { branch: queue.branch, commit: state.commit, local: local.kind, folder, saved, pictures, jobs: state.jobs },
  };
}

function localText(local: LocalBranch, { branch }: Queue): string | undefined {
  switch (local.kind) {
    case "none":
    case "same":
      return undefined;
    case "forwarded":
      return `your branch ${branch} is up to date now`;
    case "merged":
      return `your branch ${branch} was merged by experiment and pushed (${local.published.commit.slice(0, 10)})`;
    case "dirty":
      return chalk.yellow(`${branch} is checked out with changes: commit them, then sync again to merge and push them`);
  }
}

async function changeStatus(
  { names, options }: Asked,
  verb: string,
  change: (entries: readonly unknown[], names: readonly string[]) => StatusChange,
): Promise<Answer> {
  if (names.length === 0) {
    throw usageError({
      path: `npm run experiment -- ${verb}`,
      reason: "does not say which experiment",
      remedy: `npm run experiment -- ${verb} NAME…; npm run experiment -- status lists them`,
    });
  }
  const queue = queueOf(options);
  let changed: readonly string[] = [];
  const edit = (entries: readonly unknown[]) => {
    const result = change(entries, names);
    changed = result.changed;
    return result.entries;
  };
  const published: Published = await publish(queue, {
    message: `${verb[0]?.toUpperCase()}${verb.slice(1)} ${names.join(", ")}`,
    edit,
  });
  const said = verb === "cancel" ? "cancelled: a runner that has it ends it within one poll" : "pending again";
  return { text: changed.map((name) => `${name}: ${said}`).join("\n"), value: { changed, ...published } };
}

async function logs({ names, options }: Asked): Promise<Answer> {
  const [name, ...more] = names;
  if (name === undefined || more.length > 0) {
    throw usageError({
      path: "npm run experiment -- logs",
      value: names.length === 0 ? undefined : names.join(" "),
      reason: "takes one name",
      remedy: SPEC.examples[3],
    });
  }
  const printed: string[] = [];
  const print = (text: string) => void (options.json ? printed.push(text) : process.stdout.write(text));
  const job: Job | undefined = await printLog(queueOf(options), name, { follow: options.flag("follow"), print });
  if (job === undefined) {
    throw new UserError(
      [
        {
          path: `experiment ${name}`,
          reason: "is not in the queue",
          remedy: "npm run experiment -- status lists what is",
        },
      ],
      EXIT.settings,
      "queue",
    );
  }
  if (job.status !== "completed" && job.status !== "running" && job.status !== "pending") process.exitCode = EXIT.run;
  return { text: `${name} is ${job.status}`, value: { ...job, log: printed.join("") } };
}

/** Tells all that is wrong with a file before it is pushed by hand. */
function checkFile(names: readonly string[]): Answer {
  const [file = "experiments.json"] = names;
  const experiments = requireQueue(readGiven(file), file);
  return {
    text: `${file}: ${experiments.length} experiments, nothing is wrong`,
    value: { file, problems: [], experiments },
  };
}

function readGiven(file: string): string {
  try {
    return readFileSync(resolve(queueDirectory(), file), "utf8");
  } catch (error) {
    throw usageError({
      path: file,
      reason: `cannot be read: ${error instanceof Error && "code" in error ? String(error.code) : String(error)}`,
      remedy: "give the path of a JSON file with experiments",
    });
  }
}

function warn(text: string): void {
  console.error(chalk.yellow(text));
}
