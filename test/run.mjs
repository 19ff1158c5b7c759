// `npm test`: plain Node without packages, since a fresh clone has none. Installs them by the lock, then hands over.
import { installPackages } from "../scripts/lib/setup/packages.mjs";

const { run } = await installPackages();
process.exit(await run("test/run.mts", process.argv.slice(2)));
