import { readFileSync } from "node:fs";
import { join } from "node:path";
import { $ } from "zx";
import { dockerfileArguments } from "../../stacks/plan/dockerfile.ts";
import type { ImagePlan } from "../../stacks/plan/types.ts";
import { EXIT, UserError } from "./errors.ts";
import { PROJECT_DIR, pulumiEnvironment } from "./project.ts";
import { explainKnown } from "./pulumi-errors.ts";

const IMAGE_DIR = join(PROJECT_DIR, "images", "qlora");

/** How much of a failed build is shown, in lines and characters of a line. */
const SHOWN_LINES = 12;
const SHOWN_CHARACTERS = 200;

/** Arguments of `docker` that build a stage as the stack does, so that its layers are shared. */
export function buildCommand(plan: ImagePlan, stage: string, options: readonly string[] = []): readonly string[] {
  const { caCertificate } = plan;
  const certificate = caCertificate === undefined ? undefined : readFileSync(caCertificate, "utf8");
  const values = Object.entries(dockerfileArguments(plan, certificate));
  return [
    ...["buildx", "build", "--builder", "default", "--progress", "plain", "--target", stage],
    ...options,
    ...values.flatMap(([name, value]) => ["--build-arg", `${name}=${value}`]),
    ...(caCertificate === undefined ? [] : ["--secret", `id=ca_certificate,src=${caCertificate}`]),
    IMAGE_DIR,
  ];
}

/** The stage whose build made `pulumi up` fail. The plugin says no more of it than `exit status 1`. */
export function failedStage(text: string): string | undefined {
  return /docker-build:index:Image \S*image-(\w+) [^\n]*error: exit status \d+/.exec(text)?.[1];
}

/** Builds the stage once more, to see why it fails; what went well the first time comes from the cache. */
export async function explainBuild(stack: string, plan: ImagePlan, stage: string): Promise<UserError> {
  const quiet = $({
    quiet: true,
    nothrow: true,
    cwd: PROJECT_DIR,
    env: { ...process.env, ...pulumiEnvironment(process.env) },
  });
  const { exitCode, stdout, stderr } = await quiet`docker ${[...buildCommand(plan, stage)]}`;
  const output = `${stdout}\n${stderr}`.trim();
  if (exitCode === 0) return buildError(stage, "failed, and went well when tried again", "type the same command again");
  return (
    explainKnown(stack, output) ??
    buildError(stage, saidLast(output), "mend what it says, then type the same command again")
  );
}

/** What the step that failed said last. BuildKit repeats it in the end, below the step and its whole command. */
export function saidLast(output: string): string {
  const [, step, said] = /\n-+\n > (\[[^\]\n]+\])[^\n]*\n([\s\S]*?)\n-+\n/.exec(output) ?? [];
  const lines = (said ?? output).split("\n").slice(-SHOWN_LINES);
  const cut = lines.map((line) => (line.length > SHOWN_CHARACTERS ? `${line.slice(0, SHOWN_CHARACTERS)}…` : line));
  return `failed${step === undefined ? "" : ` in ${step}`}:\n    ${cut.join("\n    ")}`;
}

function buildError(stage: string, reason: string, remedy: string): UserError {
  return new UserError([{ path: `image stage ${stage}`, reason, remedy }], EXIT.stack, "image");
}
