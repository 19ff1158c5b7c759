import { pythonLiteral } from "./document.ts";

/** Where a session of Colab keeps its files, and where its Drive is mounted. */
export const CONTENT = "/content";
export const DRIVE_POINT = `${CONTENT}/drive`;
/** Where secrets of a session lie as files, for programs that read them so. */
export const SECRETS_FOLDER = `${CONTENT}/.secrets`;

/** Lines that give git a token from Colab's secrets by a file that only this session's user reads. */
export function gitAccess(secret: string): string {
  return `
import os
import subprocess
import sys

from google.colab import userdata

TOKEN_FILE = "${SECRETS_FOLDER}/git-token"
os.makedirs("${SECRETS_FOLDER}", mode=0o700, exist_ok=True)
try:
    token = userdata.get(${secret})
    with os.fdopen(os.open(TOKEN_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(token.strip())
    print("git has a token")
except (userdata.SecretNotFoundError, userdata.NotebookAccessError):
    print("no secret", ${secret}, "that this notebook may read: git gets at public repositories, and pushes to none")
# Asked by git when a server wants a name; the token is in no address, no argument and no log.
HELPER = f"!f() {{ test -s {TOKEN_FILE} && echo username=x-access-token && echo password=$(cat {TOKEN_FILE}); }}; f"
os.environ |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "credential.helper", "GIT_CONFIG_VALUE_0": HELPER}
os.environ["GIT_TERMINAL_PROMPT"] = "0"`.trim();
}

/** Lines that clone a repository, or bring a clone of an earlier try up to date. */
export function clone(url: string, folder: string): string {
  return `
if not os.path.isdir(f"{${folder}}/.git"):
    subprocess.run(["git", "clone", "--quiet", ${url}, ${folder}], check=True)
elif subprocess.run(["git", "-C", ${folder}, "pull", "--quiet", "--ff-only"]).returncode:
    print("${folder} could not be brought up to date: going on with what is there")`.trim();
}

/** Lines that make tunestack's package known to this session and to what it starts. */
export function useTools(folder: string): string {
  return `
sys.path.insert(0, f"{${folder}}/images/qlora/src")
os.environ["PYTHONPATH"] = os.pathsep.join([sys.path[0], os.environ.get("PYTHONPATH", "")])`.trim();
}

/** One line of a settings cell: `NAME = value  # what it means`. */
export function setting(name: string, value: Parameters<typeof pythonLiteral>[0], meaning: string): string {
  return `${name} = ${pythonLiteral(value)}  # ${meaning}`;
}

/** `https://host/owner/name.git` is cloned into `name`. */
export function folderName(url: string): string {
  const last = url.replace(/\/+$/, "").split(/[/:]/).at(-1) ?? "repository";
  return last.replace(/\.git$/, "").replaceAll(/[^A-Za-z0-9._-]/g, "-") || "repository";
}
