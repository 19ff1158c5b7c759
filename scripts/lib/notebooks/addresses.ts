import { usageError } from "../errors.ts";
import { Git } from "../experiments/git.ts";
import { withoutCredentials } from "../experiments/git-errors.ts";
import { PROJECT_DIR } from "../project.ts";

/**
 * An address as a session of Colab can clone it: by HTTPS, where a token gives access, and never with a token in it.
 * @param option where it was given, for the message.
 */
export function cloneAddress(given: string, option: string): string {
  const scp = /^[^\s/@]+@([^\s/:]+):(.+)$/.exec(given);
  const ssh = /^ssh:\/\/(?:[^\s/@]+@)?([^\s/:]+)(?::\d+)?\/(.+)$/.exec(given);
  const [, host, path] = scp ?? ssh ?? [];
  if (host !== undefined && path !== undefined) return `https://${host}/${path}`;
  if (/^(https?|file):\/\/\S+$/.test(given)) return withoutCredentials(given);
  throw usageError({
    path: option,
    value: withoutCredentials(given),
    reason: "is no address that Colab could clone",
    remedy: "write it as https://host/owner/name.git",
  });
}

/** The address that this clone of tunestack came from. */
export async function ownAddress(): Promise<string> {
  const url = await new Git(PROJECT_DIR).maybe(["remote", "get-url", "origin"]);
  if (url !== undefined) return cloneAddress(url, "the remote origin");
  throw usageError({
    path: "npm run notebook",
    reason: "cannot tell where Colab would get tunestack from: this clone has no remote called origin",
    remedy: "add --tools URL, the address of a repository with tunestack in it",
  });
}
