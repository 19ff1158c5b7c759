import { mkdir, rename, statfs } from "node:fs/promises";
import { join, sep } from "node:path";
import { cached, exists, recipeHash } from "./cache.ts";
import { type OfflineCause, OfflineError } from "./errors.ts";
import { findGo } from "./go-toolchain.ts";
import { lastLines, run } from "./process.ts";
import type { GoRecipe } from "./recipes.ts";

export type Report = (message: string) => void;

/** What a cold build of the largest program writes: modules, compiled packages and the program. */
const neededBytes = 7_000_000_000;

/** The reason that a failed `go build` gives away in its output. */
export function buildFailure(output: string): { readonly cause: OfflineCause; readonly remedy: string } {
  if (/no space left on device|disk quota exceeded/i.test(output)) {
    return {
      cause: "disk",
      remedy: "free some disk space (7 GB are enough), then run this again: it goes on where it stopped",
    };
  }
  if (/checksum mismatch|SECURITY ERROR/.test(output)) {
    return {
      cause: "broken",
      remedy:
        "a module differs from the sums kept in offline/go: ask who runs your Go module mirror, and don't switch the check off",
    };
  }
  if (
    /dial tcp|no such host|i\/o timeout|TLS handshake|connection (refused|reset)|x509:|unexpected EOF|Bad Gateway|proxyconnect/i.test(
      output,
    )
  ) {
    return {
      cause: "network",
      remedy:
        "check that Go modules can be fetched (environment GOPROXY, HTTPS_PROXY, SSL_CERT_FILE), then run this again",
    };
  }
  if (/permission denied/i.test(output)) {
    return { cause: "rights", remedy: "make the path above writable for you, then run this again" };
  }
  return { cause: "compile", remedy: "read the log; with another Go on PATH (`go version`) the same recipe may build" };
}

/** Turns what `go build -v` prints into a progress message at most once a second. */
export function progressOf(title: string, packages: number, report: Report, now: () => number = Date.now) {
  let downloaded = 0;
  let compiled = 0;
  let last = Number.NEGATIVE_INFINITY;
  return (line: string): void => {
    if (line.startsWith("go: downloading ")) downloaded += 1;
    else if (/^[\w.-]+(\/[\w.~-]+)*$/.test(line)) compiled += 1;
    else return;
    if (now() - last < 1000) return;
    last = now();
    const part =
      compiled === 0
        ? `${downloaded} modules fetched`
        : `${Math.min(compiled, packages)} of about ${packages} packages`;
    report(`building ${title}: ${part}`);
  };
}

async function checkDisk(cacheDir: string, recipe: GoRecipe): Promise<void> {
  await mkdir(cacheDir, { recursive: true });
  const disk = await statfs(cacheDir);
  const free = disk.bavail * disk.bsize;
  if (free >= neededBytes) return;
  throw new OfflineError({
    cause: "disk",
    what: `${recipe.title} ${recipe.version} cannot be built: the disk is nearly full`,
    why: `${cacheDir} has ${(free / 1e9).toFixed(1)} GB free, a build needs ${neededBytes / 1e9} GB`,
    remedy: "free some disk space, then run this again",
  });
}

/** The name that `go build` gives the program of a package: its last part that is no major version. */
export function builtName(path: string): string {
  return path.split("/").findLast((part) => !/^v\d+$/.test(part)) ?? path;
}

/** Builds a recipe's programs into a folder. */
export async function compile(recipe: GoRecipe, cacheDir: string, aside: string, report: Report): Promise<void> {
  await checkDisk(cacheDir, recipe);
  const go = await findGo(cacheDir, report);
  const log = join(cacheDir, `${recipe.what}.log`);
  const variables = Object.entries(recipe.variables).map(([name, value]) => `-X ${name}=${value}`);
  const programs = Object.entries(recipe.programs);
  report(`building ${recipe.title} ${recipe.version} from its Go module (some minutes)`);
  const flags = [
    "-v",
    "-mod=readonly",
    "-trimpath",
    "-buildvcs=false",
    "-ldflags",
    ["-s", "-w", ...variables].join(" "),
  ];
  const packages = programs.map(([, path]) => path);
  const built = await run(go.command, ["build", ...flags, "-o", `${aside}${sep}`, ...packages], {
    cwd: recipe.module,
    env: { ...process.env, ...go.env, GOFLAGS: "", GOWORK: "off", CGO_ENABLED: "0" },
    log,
    onLine: progressOf(recipe.title, recipe.packages, report),
  });
  if (built.code === 0) {
    for (const [name, path] of programs) await rename(join(aside, builtName(path)), join(aside, name));
    return;
  }
  const told = built.output.split("\n").filter((line) => !/^(go: downloading |[\w.-]+(\/[\w.~-]+)*$)/.test(line));
  throw new OfflineError({
    ...buildFailure(built.output),
    what: `${recipe.title} ${recipe.version} could not be built`,
    why: lastLines(told.join("\n")),
    log,
  });
}

/** The name of the cache folder in which a recipe's program lies: it changes with anything that feeds the build. */
export async function recipeFolder(recipe: GoRecipe): Promise<string> {
  const words = [
    process.platform,
    process.arch,
    ...Object.values(recipe.programs),
    recipe.version,
    JSON.stringify(recipe.variables),
  ];
  return `${recipe.what}-${recipe.version}-${await recipeHash(words, [recipe.module])}`;
}

/** The path of a recipe's first program, built when the cache has none. */
export async function builtProgram(recipe: GoRecipe, cacheDir: string, report: Report): Promise<string> {
  const folderName = await recipeFolder(recipe);
  const folder = await cached(cacheDir, folderName, (aside) => compile(recipe, cacheDir, aside, report));
  const program = join(folder, Object.keys(recipe.programs)[0] ?? recipe.what);
  if (await exists(program)) return program;
  throw new OfflineError({
    cause: "broken",
    what: `${recipe.title} ${recipe.version} is missing from the cache`,
    why: `${program} does not exist`,
    remedy: `remove ${folder}, then run this again`,
  });
}
