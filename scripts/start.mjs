// `npm start`: plain Node without packages, since a fresh clone has none. Installs them by the lock, then hands over.
import { installPackages } from "./lib/setup/packages.mjs";

const { run } = await installPackages();
process.exit(await run("scripts/start.mts", process.argv.slice(2)));
