import type { Problem } from "../../../stacks/settings/problems.ts";
import { EXIT, type ExitCode, UserError } from "../errors.ts";

interface Failure {
  readonly directory: string;
  /** What was tried. Example: `fetch the branch gpu-experiments`. */
  readonly what: string | undefined;
  readonly args: readonly string[];
}

interface Known {
  /** What git, ssh or the server says. Git's own words are of LC_ALL=C. */
  readonly said: RegExp;
  readonly reason: string;
  readonly remedy: string;
  readonly exitCode: ExitCode;
}

/** The ways in which access to a repository fails; the first that fits is told. */
const KNOWN: readonly Known[] = [
  {
    said: /not a git repository/i,
    reason: "is no git repository",
    remedy: "type the command in a clone, or name one: --directory PATH",
    exitCode: EXIT.settings,
  },
  {
    said: /detected dubious ownership/,
    reason: "belongs to another user, and git refuses to work in it",
    remedy: "git config --global --add safe.directory PATH, if you trust it",
    exitCode: EXIT.settings,
  },
  {
    said: /please tell me who you are|empty ident name|unable to auto-detect email/i,
    reason: "git does not know who makes the commit",
    remedy: 'git config --global user.name "Your Name" && git config --global user.email you@example.org',
    exitCode: EXIT.settings,
  },
  {
    said: /host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED/i,
    reason: "ssh does not know the server's key, or the key has changed",
    remedy: "compare the key with what the server publishes, then: ssh-keyscan HOST >> ~/.ssh/known_hosts",
    exitCode: EXIT.network,
  },
  {
    said: /permission denied \((publickey|.*publickey.*)\)/i,
    reason: "the server knows none of your SSH keys",
    remedy: "add your public key to your account there; ssh -T git@HOST tells who you are for it",
    exitCode: EXIT.settings,
  },
  {
    said: /could not read (username|password)|terminal prompts disabled|authentication failed|invalid username or (password|token)|HTTP 401|error: 401/i,
    reason: "the server asks for a name and a token, and there is none or a wrong one",
    remedy: "sign in once with git itself (git fetch, or a credential helper), or use the SSH address",
    exitCode: EXIT.settings,
  },
  {
    said: /error: 403|HTTP 403|write access to repository not granted|permission to \S+ denied|access denied|you are not allowed to (push|upload)/i,
    reason: "you are known and have no right to do this",
    remedy: "ask for the right to push; a token needs the scope for writing a repository's contents",
    exitCode: EXIT.settings,
  },
  {
    said: /protected branch|GH006|GH013|hook declined|remote rejected/i,
    reason: "the server refuses a push to this branch by a rule of its own",
    remedy: "let your account and the runner's push there, or use another branch: tunestack:experiments.branch",
    exitCode: EXIT.refused,
  },
  {
    said: /repository .* not found|does not appear to be a git repository|HTTP 404|error: 404|does not exist|could not be found/i,
    reason: "there is no such repository, or you may not see it",
    remedy: "check the address: git remote --verbose, or tunestack:experiments.repository",
    exitCode: EXIT.settings,
  },
  {
    said: /SSL certificate problem|certificate verif|server certificate/i,
    reason: "the server's certificate is not trusted here",
    remedy: "behind a proxy that signs anew: git config --global http.sslCAInfo FILE.pem",
    exitCode: EXIT.network,
  },
  {
    said: /could not resolve host|could not connect|connection (refused|timed out|reset)|failed to connect|network is unreachable|no route to host|early EOF|unable to access|unexpected disconnect|hung up unexpectedly|Operation timed out/i,
    reason: "the server cannot be reached",
    remedy: "check the network and the address, then type the same command again: nothing was changed",
    exitCode: EXIT.network,
  },
];

/** What git said on failure, as what is wrong and what to do. Secrets in an address are left out. */
export function explainGit(stderr: string, { directory, what, args }: Failure): UserError {
  const said = withoutCredentials(stderr.trim());
  const known = KNOWN.find((candidate) => candidate.said.test(said));
  const path = what === undefined ? directory : `${what} (${directory})`;
  const quoted = said.split("\n").slice(-6).join("\n    ");
  const problem: Problem =
    known === undefined
      ? {
          path,
          reason: `git ${args[0] ?? ""} failed:\n    ${quoted}`,
          remedy: "mend what it says, then type the same command again",
        }
      : { path, reason: `${known.reason}; git said:\n    ${quoted}`, remedy: known.remedy };
  return new UserError([problem], known?.exitCode ?? EXIT.machine, "git repository");
}

/** `https://user:token@host` becomes `https://host`; the user of an SSH address stays, a password never does. */
export function withoutCredentials(text: string): string {
  return text
    .replaceAll(/(https?:\/\/)[^/@\s]*@/gi, "$1")
    .replaceAll(/([a-z][a-z0-9+.-]*:\/\/[^/@:\s]*):[^/@\s]*@/gi, "$1@");
}
