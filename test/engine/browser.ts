import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { which } from "zx";
import { runQuietly } from "../../scripts/lib/process.ts";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";
import { mayInstall, readSystem } from "../../scripts/lib/setup/system.ts";

/** Where what the browser saw is kept for people; git ignores it. */
const SCREENSHOTS = join(PROJECT_DIR, "coverage", "screenshots");

/** A headless Chromium; installed where it is missing and we may. Undefined, with the reason, where we may not. */
export async function openBrowser(): Promise<Browser | { readonly missing: string }> {
  if ((await findChromium()) === undefined && mayInstall(readSystem())) {
    await runQuietly("apt-get", ["update", "--quiet"]);
    await runQuietly("apt-get", ["install", "--yes", "--quiet", "--no-install-recommends", "chromium"], {
      DEBIAN_FRONTEND: "noninteractive",
    });
  }
  const executablePath = await findChromium();
  if (executablePath === undefined) return { missing: "no Chromium: install it (apt-get install chromium)" };
  return await chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

async function findChromium(): Promise<string | undefined> {
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    const found = await which(name, { nothrow: true });
    if (found !== null) return found;
  }
  return undefined;
}

/** A page as a person sees it, kept as a picture. */
export async function keepPicture(page: Page, name: string): Promise<void> {
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}
