import { basename, dirname } from "node:path";
import { Readable, type Readable as Stream } from "node:stream";
import { text } from "node:stream/consumers";
import type { KubeConfig } from "@kubernetes/client-node";
import { machineError } from "../errors.ts";
import { execute, type PodPlace } from "./streams.ts";

/** A file or folder of a container as a tar archive, whose entries begin with its last name. */
export async function packed(config: KubeConfig, place: PodPlace, path: string): Promise<NodeJS.ReadableStream> {
  const { stdout, stderr, exitCode } = await execute(config, place, [
    "tar",
    "-C",
    dirname(path),
    "-cf",
    "-",
    "--",
    basename(path),
  ]);
  const said = text(stderr);
  return Readable.from(whole(stdout, said, exitCode, `${place.pod}:${path}`), { objectMode: false });
}

/** An archive that breaks off looks like one that is complete: it ends well only where tar did. */
async function* whole(stdout: Stream, said: Promise<string>, exitCode: Promise<number | undefined>, what: string) {
  for await (const chunk of stdout) yield chunk as Buffer;
  const code = await exitCode;
  if (code !== 0) throw notCopied(what, code, await said);
}

/**
 * Unpacks a tar archive into a folder of a container; the files belong to the container's user.
 * @throws UserError where tar could not, with what it said.
 */
export async function unpacked(
  config: KubeConfig,
  place: PodPlace,
  folder: string,
  archive: NodeJS.ReadableStream,
): Promise<void> {
  const command = ["tar", "-C", folder, "--no-same-owner", "--no-same-permissions", "-xf", "-"];
  let broken: unknown;
  // It may break before the program is there to read it; whoever reads it then is told.
  archive.on("error", () => undefined);
  const source = Readable.from(
    withoutError(archive, (error) => {
      broken = error;
    }),
    { objectMode: false },
  );
  const { stdout, stderr, exitCode } = await execute(config, place, command, source);
  stdout.resume();
  const [code, said] = await Promise.all([exitCode, text(stderr)]);
  if (broken !== undefined) throw broken;
  if (code !== 0) throw notCopied(`${place.pod}:${folder}`, code, said);
}

/** The reader of a stream that breaks sees its end; who sent it is told why. */
async function* withoutError(stream: NodeJS.ReadableStream, tell: (error: unknown) => void) {
  try {
    for await (const chunk of stream) yield chunk as Buffer;
  } catch (error) {
    tell(error);
  }
}

function notCopied(what: string, code: number | undefined, said: string): Error {
  const [line = ""] = said.trim().split("\n");
  return machineError({
    path: what,
    reason:
      code === undefined
        ? "the connection ended while files were copied"
        : `tar ended with exit code ${code}${line === "" ? "" : `: ${line}`}`,
    remedy: "type the same command again: what is half there is not taken for whole",
  });
}
