// `npm run NAME`: makes sure that the packages are there, then runs scripts/NAME.mts.
import { installPackages } from "./lib/setup/packages.mjs";

const [name, ...args] = process.argv.slice(2);
const { run } = await installPackages();
process.exit(await run(`scripts/${name}.mts`, args));
