import { EXIT, UserError } from "../errors.ts";
import { QUEUE_FILE, queueText, RESULTS_FOLDER } from "./format.ts";
import type { Git } from "./git.ts";
import { explainGit, withoutCredentials } from "./git-errors.ts";
import { mergeQueues } from "./merge.ts";
import { fileProblem, readQueue, toProblem } from "./validate.ts";

/** Where the queue is: a branch of a remote, as seen from one clone. */
export interface Queue {
  readonly git: Git;
  /** Name of a remote, or an address. */
  readonly remote: string;
  readonly branch: string;
}

/** Refs of our own, so that nobody's remote-tracking branches move. */
const SEEN = "refs/tunestack/queue";
const RUNNERS_SEEN = "refs/tunestack/remote";
const MOST_RACES = 12;

/** The branch's commit on the server now; undefined where there is no such branch. */
export async function fetchBranch({ git, remote, branch }: Queue): Promise<string | undefined> {
  const seen = `${SEEN}/${branch}`;
  const refspec = `+refs/heads/${branch}:${seen}`;
  const args = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", remote, refspec];
  const { exitCode, stderr } = await git.attempt(args);
  if (exitCode === 0) return await git.text(["rev-parse", "--verify", `${seen}^{commit}`]);
  if (/couldn't find remote ref/i.test(stderr)) return undefined;
  throw explainGit(stderr, {
    directory: git.directory,
    what: `fetch ${branch} of ${withoutCredentials(remote)}`,
    args,
  });
}

/** Claims and runners on the server now, as refs of this clone: `claims/NAME`, `runners/RUNNER`. */
export async function fetchRunners({ git, remote }: Queue): Promise<ReadonlyMap<string, string>> {
  const refspecs = ["claims", "runners"].map((kind) => `+refs/tunestack/${kind}/*:${RUNNERS_SEEN}/${kind}/*`);
  const args = ["fetch", "--quiet", "--prune", "--no-tags", "--no-write-fetch-head", remote, ...refspecs];
  await git.text(args, { what: `fetch what runners do from ${withoutCredentials(remote)}` });
  const listed = await git.text(["for-each-ref", "--format=%(objectname) %(refname)", `${RUNNERS_SEEN}/`]);
  return new Map(
    listed.split("\n").flatMap((line) => {
      const [commit, ref] = line.split(" ");
      return commit === undefined || ref === undefined ? [] : [[ref.slice(RUNNERS_SEEN.length + 1), commit]];
    }),
  );
}

/** A file at a commit; undefined where there is none. */
export async function fileAt(git: Git, commit: string | undefined, path: string): Promise<string | undefined> {
  if (commit === undefined) return undefined;
  const { exitCode, stdout } = await git.attempt(["cat-file", "blob", `${commit}:${path}`]);
  return exitCode === 0 ? stdout : undefined;
}

/** The queue's entries at a commit; none where there is no file. @throws UserError where it is no JSON list. */
export async function entriesAt(git: Git, commit: string | undefined): Promise<readonly unknown[]> {
  const text = await fileAt(git, commit, QUEUE_FILE);
  if (text === undefined) return [];
  const { entries, problems } = readQueue(text);
  const broken = fileProblem(problems);
  if (broken === undefined) return entries;
  const { path, reason, remedy } = toProblem(broken, QUEUE_FILE);
  throw new UserError(
    [
      {
        path: `${path} at ${commit?.slice(0, 10)}`,
        reason: `${reason}; nothing can be added to it without losing what it holds`,
        remedy: `${remedy}; then push it to the branch`,
      },
    ],
    EXIT.refused,
    "queue",
  );
}

export interface Change {
  readonly message: string;
  /** Commit whose code the experiments shall run; undefined leaves the branch's code as it is. */
  readonly code?: string | undefined;
  /** The queue as it should be, given the one that is there. Called again where somebody else was faster. */
  readonly edit: (entries: readonly unknown[]) => readonly unknown[];
}

export interface Published {
  readonly commit: string;
  /** How the code of the branch came to be, in words. */
  readonly code: string;
  /** Somebody else pushed meanwhile, so many times. */
  readonly races: number;
}

/**
 * Pushes a change of the queue, without the working tree or the index being touched; against a push of somebody else it is
 * made again upon theirs.
 * @throws UserError where access fails, or the code cannot be merged.
 */
export async function publish(queue: Queue, change: Change): Promise<Published> {
  const { git, remote, branch } = queue;
  for (let races = 0; races < MOST_RACES; races += 1) {
    const tip = await fetchBranch(queue);
    if (tip === undefined && change.code === undefined) throw noBranch(branch);
    const { commit, code } = await commitChange(git, tip, change);
    if (commit === tip) return { commit, code: "nothing to push: it is there already", races };
    // The branch is as it was seen, or the push is refused: also for a branch that is not there yet.
    const lease = `--force-with-lease=refs/heads/${branch}:${tip ?? ""}`;
    const args = ["push", "--quiet", "--no-verify", lease, remote, `${commit}:refs/heads/${branch}`];
    const { exitCode, stderr } = await git.attempt(args);
    if (exitCode === 0) return { commit, code, races };
    if (
      !/stale info|non-fast-forward|fetch first|cannot lock ref|incorrect old value|reference already exists/i.test(
        stderr,
      )
    ) {
      throw explainGit(stderr, {
        directory: git.directory,
        what: `push to ${branch} of ${withoutCredentials(remote)}`,
        args,
      });
    }
  }
  throw new UserError(
    [
      {
        path: `branch ${branch}`,
        reason: `somebody else was faster ${MOST_RACES} times in a row`,
        remedy: "type the same command again: nothing was changed",
      },
    ],
    EXIT.network,
    "git repository",
  );
}

function noBranch(branch: string): UserError {
  const remedy = "npm run experiment -- submit NAME --command '…' makes it; or name another: --branch NAME";
  return new UserError(
    [{ path: `branch ${branch}`, reason: "is not there yet", remedy }],
    EXIT.settings,
    "git repository",
  );
}

/** A commit with the change upon what is there; the tip itself where nothing changes. */
async function commitChange(
  git: Git,
  tip: string | undefined,
  { message, code, edit }: Change,
): Promise<{ readonly commit: string; readonly code: string }> {
  const merged = await mergeCode(git, tip, code);
  const before = await mergeEntries(git, tip, merged.head);
  const blob = await git.text(["hash-object", "-w", "--stdin"], { input: queueText(edit(before)) });
  const results =
    tip === undefined ? undefined : await git.maybe(["rev-parse", "--verify", "--quiet", `${tip}:${RESULTS_FOLDER}`]);
  const tree = await writeTree(git, merged.tree, { blob, results });
  const unchanged =
    tip !== undefined && tree === (await git.text(["rev-parse", `${tip}^{tree}`])) && merged.head === undefined;
  if (unchanged) return { commit: tip, code: merged.said };
  const parents = [tip, merged.head].flatMap((parent) => (parent === undefined ? [] : ["-p", parent]));
  const commit = await git.text(["commit-tree", tree, ...parents], { input: `${message}\n`, what: "make a commit" });
  return { commit, code: merged.said };
}

/** The queue that the edit starts from: the branch's, with what the person's own commit changed in it by hand. */
async function mergeEntries(git: Git, tip: string | undefined, head: string | undefined): Promise<readonly unknown[]> {
  const theirs = await entriesAt(git, tip);
  if (head === undefined || (await fileAt(git, head, QUEUE_FILE)) === undefined) return theirs;
  const ours = await entriesAt(git, head);
  if (tip === undefined) return ours;
  const base = await git.maybe(["merge-base", tip, head]);
  const { experiments } = mergeQueues(base === undefined ? [] : await entriesAt(git, base), ours, theirs);
  return experiments;
}

interface MergedCode {
  readonly tree: string;
  /** The person's commit, where it becomes a parent. */
  readonly head: string | undefined;
  readonly said: string;
}

/**
 * The code that the branch will have. It is the person's where nobody else's came to the branch since they parted, and a
 * merge of both otherwise: an experiment that is still pending must not lose the code that it was submitted with.
 */
async function mergeCode(git: Git, tip: string | undefined, code: string | undefined): Promise<MergedCode> {
  if (code === undefined || code === tip) {
    return {
      tree: await codeTree(git, tip ?? (await emptyTree(git))),
      head: undefined,
      said: "the code of the branch as it is",
    };
  }
  const own = `your commit ${code.slice(0, 10)}`;
  if (tip === undefined) return { tree: await codeTree(git, code), head: code, said: `${own}; the branch is new` };
  const tipTree = await codeTree(git, tip);
  const ownTree = await codeTree(git, code);
  const base = await git.maybe(["merge-base", tip, code]);
  if (base === code) {
    const newer = tipTree === ownTree ? "" : ", and newer code since, which is what runs";
    return { tree: tipTree, head: undefined, said: `the branch has ${own}${newer}` };
  }
  const baseTree = base === undefined ? await emptyTree(git) : await codeTree(git, base);
  if (tipTree === baseTree || tipTree === ownTree) return { tree: ownTree, head: code, said: own };
  const tree = await mergeTrees(git, { base: baseTree, ours: ownTree, theirs: tipTree }, code);
  return { tree, head: code, said: `${own}, merged with what others brought to the branch` };
}

/** Merges code by git itself, upon commits that hold nothing of the queue and that nobody sees. */
async function mergeTrees(
  git: Git,
  { base, ours, theirs }: { readonly base: string; readonly ours: string; readonly theirs: string },
  code: string,
): Promise<string> {
  const commit = async (tree: string, ...parents: string[]) =>
    await git.text(["commit-tree", tree, ...parents.flatMap((parent) => ["-p", parent])], { input: "merge\n" });
  const from = await commit(base);
  const args = ["merge-tree", "--write-tree", "--name-only", await commit(ours, from), await commit(theirs, from)];
  const { exitCode, stdout, stderr } = await git.attempt(args);
  const [tree = "", ...rest] = stdout.split("\n");
  if (exitCode === 0) return tree;
  const files = rest.slice(0, rest.indexOf("")).join(", ");
  const reason =
    exitCode === 1
      ? `does not merge with the code that others brought to the branch: ${files}`
      : `cannot be merged by this git, which must be 2.38 or newer: ${stderr.trim().split("\n")[0]}`;
  throw new UserError(
    [
      {
        path: `commit ${code.slice(0, 10)}`,
        reason,
        remedy: "merge the branch into yours and commit, then submit again; or use a branch of your own: --branch NAME",
      },
    ],
    EXIT.refused,
    "code",
  );
}

/** A commit's tree without the queue. */
async function codeTree(git: Git, commit: string): Promise<string> {
  const listed = await git.text(["ls-tree", "-z", "--full-tree", commit]);
  const kept = listed
    .split("\0")
    .filter((line) => line !== "" && !OF_QUEUE.includes(line.slice(line.indexOf("\t") + 1)));
  return await makeTree(git, kept);
}

const OF_QUEUE: readonly string[] = [QUEUE_FILE, RESULTS_FOLDER];

async function emptyTree(git: Git): Promise<string> {
  return await makeTree(git, []);
}

/** Code, queue and results as one tree. */
async function writeTree(
  git: Git,
  code: string,
  { blob, results }: { readonly blob: string; readonly results: string | undefined },
): Promise<string> {
  const listed = await git.text(["ls-tree", "-z", "--full-tree", code]);
  return await makeTree(git, [
    ...listed.split("\0").filter((line) => line !== ""),
    `100644 blob ${blob}\t${QUEUE_FILE}`,
    ...(results === undefined ? [] : [`040000 tree ${results}\t${RESULTS_FOLDER}`]),
  ]);
}

/** A tree of lines such as `100644 blob HASH\tNAME`, which git sorts. */
async function makeTree(git: Git, lines: readonly string[]): Promise<string> {
  return await git.text(["mktree", "-z"], { input: lines.map((line) => `${line}\0`).join("") });
}
