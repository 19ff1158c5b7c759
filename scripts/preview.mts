import { readFileSync, writeFileSync } from "node:fs";
import { EXIT, runCommand, usageError } from "./lib/errors.ts";
import { type Parsed, parseCommand } from "./lib/options.ts";
import { postComment } from "./lib/preview/comment.ts";
import { asJson, asMarkdown, changesOf, type StackPreview } from "./lib/preview/report.ts";
import { previewStack, stacksToPreview } from "./lib/preview/run.ts";
import { setUpPulumi } from "./lib/setup/setup.ts";
import { step } from "./lib/steps.ts";

const SPEC = {
  name: "preview",
  summary:
    "Previews every stack that has a Pulumi.<stack>.yaml, or those named, and tells what would change, what that means for\nwhat runs, and what the rules of policy/ refuse. Changes nothing.",
  options: {
    markdown: {
      type: "string",
      value: "FILE",
      help: "writes the comment for a pull request there instead of printing it",
    },
    post: {
      type: "string",
      value: "FILE",
      help: "previews nothing and posts this comment (needs GITHUB_TOKEN, GITHUB_REPOSITORY)",
    },
    "pull-request": { type: "string", value: "NUMBER", help: "pull request that --post writes to" },
    head: { type: "string", value: "COMMIT", help: "with --post: writes only while the pull request ends with it" },
  },
  operands: { names: "STACK…", atMost: 64, help: "stacks to preview (default: all)" },
  json: true,
  examples: ["npm run preview", "npm run preview -- dev --markdown preview.md", "npm run preview -- --json"],
} as const;

await runCommand(async () => {
  const options = parseCommand(SPEC);
  const file = options.text("post");
  if (file !== undefined) return await post(file, options);
  const stacks = stacksToPreview(options.operands);
  await setUpPulumi(stacks);
  const previews: StackPreview[] = [];
  for (const stack of stacks) {
    previews.push(
      await step(`preview ${stack}`, async () => {
        const preview = await previewStack(stack);
        return { said: preview.kind === "failed" ? "failed" : `${changesOf(preview).length} changes`, value: preview };
      }),
    );
  }
  const markdown = options.text("markdown");
  if (markdown !== undefined) writeFileSync(markdown, asMarkdown(previews));
  if (options.json) console.log(JSON.stringify(asJson(previews), null, 2));
  else if (markdown === undefined) console.log(asMarkdown(previews));
  process.exitCode = exitCodeOf(previews);
});

/** What failed tells its cause; else a violation is a refusal. */
function exitCodeOf(previews: readonly StackPreview[]): number {
  const failed = previews.find((preview) => preview.kind === "failed");
  if (failed !== undefined) return failed.exitCode;
  return previews.some((preview) => preview.kind === "finished" && preview.violations.length > 0) ? EXIT.refused : 0;
}

async function post(file: string, options: Parsed): Promise<void> {
  const pullRequest = Number(options.text("pull-request"));
  if (!Number.isSafeInteger(pullRequest) || pullRequest < 1) {
    throw usageError({
      path: "--pull-request",
      value: options.text("pull-request"),
      reason: "--post needs the number of a pull request",
      remedy: "npm run preview -- --post preview.md --pull-request 12",
    });
  }
  const done = await postComment(
    {
      apiUrl: process.env.GITHUB_API_URL ?? "https://api.github.com",
      repository: required("GITHUB_REPOSITORY", "such as me/tunestack"),
      token: required("GITHUB_TOKEN", "of a job with `permissions: pull-requests: write`"),
      author: process.env.TUNESTACK_COMMENT_AUTHOR ?? "github-actions[bot]",
      pullRequest,
      head: options.text("head"),
    },
    readComment(file),
  );
  console.log(`comment ${done}`);
}

function required(name: string, what: string): string {
  const value = process.env[name];
  if (value !== undefined && value !== "") return value;
  throw usageError({ path: name, reason: "is not set in the environment", remedy: `set it: ${what}` });
}

function readComment(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    throw usageError({
      path: "--post",
      value: file,
      reason: "cannot be read",
      remedy: "npm run preview -- --markdown FILE writes it",
    });
  }
}
