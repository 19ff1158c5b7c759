import type { Problem } from "../../stacks/settings/problems.ts";
import { EXIT, type ExitCode, UserError } from "./errors.ts";

interface Known {
  /** What Pulumi or a plugin says. */
  readonly pattern: RegExp;
  readonly problem: (stack: string, match: RegExpExecArray) => Problem;
  readonly exitCode: ExitCode;
}

const LOST_IN_BUILD =
  "check the network, a proxy, or a mirror (image.pypiMirror, image.aptMirror), then the same command again: what was downloaded whole is not fetched again";

/** Failures that a person meets, by Pulumi's own words. The first that matches counts. */
const KNOWN: readonly Known[] = [
  {
    pattern: /the stack is currently locked by \d+ lock\(s\)(?:[\s\S]*?(created by [^\n]*))?/,
    problem: (stack, match) => ({
      path: `stack ${stack}`,
      value: match[1],
      reason: "is locked: another `pulumi up` is in progress, or was killed",
      remedy: `if none is in progress: npx pulumi cancel --yes --stack ${stack}, then the same command again`,
    }),
    exitCode: EXIT.stack,
  },
  {
    pattern: /incorrect passphrase/,
    problem: (stack) => ({
      path: `stack ${stack}`,
      reason: "its secrets were made with another passphrase",
      remedy:
        "put back .tunestack/passphrase, or set PULUMI_CONFIG_PASSPHRASE to the right one (and unset a wrong one); no passphrase brings back what another encrypted",
    }),
    exitCode: EXIT.settings,
  },
  {
    pattern: /passphrase must be set with PULUMI_CONFIG_PASSPHRASE/,
    problem: (stack) => ({
      path: `stack ${stack}`,
      reason: "its passphrase is not known",
      remedy: "npm start makes one for a new clone; for an old one put back .tunestack/passphrase",
    }),
    exitCode: EXIT.settings,
  },
  {
    // The engine's words, and those of Python and uv in a build.
    pattern: /no space left on device/i,
    problem: () => ({
      path: "disk",
      reason: "is full",
      remedy:
        "free some (docker image prune, docker builder prune), then the same command again: it goes on where it stopped",
    }),
    exitCode: EXIT.machine,
  },
  {
    // BuildKit on a base image: the step that it was at, then why.
    pattern:
      /ERROR[^\n]*\n-+\n > \[internal\] load metadata for (\S+):\n-+\n[^\n]*?((?:dial tcp|failed to authorize|pull access denied|not found|no such host)[^\n]*)/,
    problem: (_stack, match) => ({
      path: "base image",
      value: match[1],
      reason: `cannot be pulled: ${match[2]}`,
      remedy:
        "check image.base and your network; where the registry cannot be reached, leave image.base at auto: npm start makes a base image without it",
    }),
    exitCode: EXIT.network,
  },
  {
    pattern:
      /(?:failed to resolve source metadata for|pull access denied for|Unable to read Docker image into resource[^:]*:|unable to pull image) ?([^\s:]+[^\s]*)/,
    problem: (_stack, match) => ({
      path: "image",
      value: match[1],
      reason: "cannot be pulled from its registry",
      remedy:
        "check its name and your network; where the registry cannot be reached, npm start makes a base image without it",
    }),
    exitCode: EXIT.network,
  },
  {
    // uv and apt in a build: the address, then why.
    pattern:
      /Failed to fetch:? `?(https?:\/\/[^\s`]+)[\s\S]{0,600}?(Temporary failure (?:resolving|in name resolution)|dns error|[Cc]onnection (?:refused|reset|closed|timed out|failed)|Could not connect|Network is unreachable|operation timed out)/,
    problem: (_stack, match) => ({
      path: "network",
      value: match[1],
      reason: `does not answer: ${match[2]}`,
      remedy: LOST_IN_BUILD,
    }),
    exitCode: EXIT.network,
  },
  {
    // pip in a build.
    pattern: /connection broken by '[^\n]*?(?:: )?((?:\[Errno -?\d+\] )?[\w ]+)'?\)'?: (\/\S+)/,
    problem: (_stack, match) => ({
      path: "network",
      value: match[2],
      reason: `the package index does not answer: ${match[1]}`,
      remedy: LOST_IN_BUILD,
    }),
    exitCode: EXIT.network,
  },
  {
    pattern: /(?:dial tcp|lookup) [^\n]*(?:no such host|connection refused|i\/o timeout|Temporary failure)/,
    problem: (_stack, match) => ({
      path: "network",
      value: match[0],
      reason: "does not answer",
      remedy: "check the network, a proxy (HTTPS_PROXY), or a mirror (image.pypiMirror, image.aptMirror)",
    }),
    exitCode: EXIT.network,
  },
];

/**
 * The failure of a Pulumi command as a person can use it; undefined for what is none of Pulumi's.
 * Our own program's problems come through as they are; what is not known is shown by its error lines.
 */
export function explainPulumi(stack: string, error: unknown): UserError | undefined {
  // What was explained already may quote an exit code as well.
  if (error instanceof UserError) return error;
  if (!(error instanceof Error) || !/code: |stderr:/.test(error.message)) return undefined;
  const text = error.message;
  const own = ownProblems(text);
  if (own !== undefined) return own;
  const known = explainKnown(stack, text);
  if (known !== undefined) return known;
  return new UserError(
    [
      {
        path: `stack ${stack}`,
        reason: `Pulumi ended with an error:\n    ${errorLines(text).join("\n    ")}`,
        remedy: "mend what it says, then the same command again; `npx pulumi up` shows it in full",
      },
    ],
    EXIT.stack,
    "stack",
  );
}

/** What is known of a text by Pulumi, a plugin or the build; undefined for what is not. */
export function explainKnown(stack: string, text: string): UserError | undefined {
  for (const { pattern, problem, exitCode } of KNOWN) {
    const match = pattern.exec(text);
    if (match !== null) return new UserError([problem(stack, match)], exitCode, "stack");
  }
  return undefined;
}

/** Problems that our own program reported through Pulumi, word for word. */
function ownProblems(text: string): UserError | undefined {
  const start = /^\s*(?:error: )?(\d+ problems? in the ([^\n:]+):)$/m.exec(text);
  if (start === null || start[1] === undefined) return undefined;
  const lines = text.slice(start.index).split("\n");
  const indent = /^\s*/.exec(lines[0] ?? "")?.[0].length ?? 0;
  const block: string[] = [];
  for (const line of lines.slice(1)) {
    if (line.trim() === "" || /^\s{0,3}\S/.test(line.slice(indent))) {
      if (!/^\s{2,}\S/.test(line.slice(indent))) break;
    }
    block.push(line.slice(indent));
  }
  const subject = start[2] ?? "settings";
  return new ReportedError(
    [start[1], ...block].join("\n"),
    subject === "settings" ? EXIT.settings : EXIT.machine,
    subject,
  );
}

/** Problems that were formatted already, on the other side of Pulumi. */
class ReportedError extends UserError {
  constructor(text: string, exitCode: ExitCode, subject: string) {
    super([], exitCode, subject);
    this.message = text;
  }
}

function errorLines(text: string): readonly string[] {
  const lines = text.split("\n").map((line) => line.trim());
  const errors = lines.filter((line) => /error:|failed|denied/i.test(line) && !/^code:|^stderr:|^stdout:/.test(line));
  return [...new Set(errors.length > 0 ? errors : lines.filter((line) => line !== ""))].slice(-6);
}
