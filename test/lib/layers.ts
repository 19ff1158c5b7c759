import { chalk } from "zx";
import { formatDuration } from "../../stacks/settings/units.ts";
import { closingText, countsOf, countsText, crashed, type SuiteResult } from "./results.ts";

/** Takes the result of a suite as soon as it is known, so that a later crash of the layer does not lose it. */
export type Record = (suite: SuiteResult) => void;

export interface Layer {
  readonly name: string;
  /** What it tests, in one line. */
  readonly headline: string;
  readonly run: (record: Record) => Promise<void>;
}

/**
 * Runs layers one after the other, also after one that failed, and prints what came of them.
 * @returns the exit code: 0 where nothing failed.
 */
export async function runLayers(layers: readonly Layer[], print: (text: string) => void): Promise<number> {
  const all: SuiteResult[] = [];
  for (const layer of layers) {
    print(chalk.bold(`${layer.name}: ${layer.headline}`));
    const started = Date.now();
    const suites: SuiteResult[] = [];
    const record: Record = (suite) => {
      suites.push(suite);
      print(suiteText(suite));
    };
    try {
      await layer.run(record);
    } catch (error) {
      record(crashed(`${layer.name} could not be run`, (Date.now() - started) / 1000, messageOf(error)));
    }
    print(`${layer.name}: ${countsText(countsOf(suites))} in ${formatDuration((Date.now() - started) / 1000)}\n`);
    all.push(...suites);
  }
  print(closingText(all));
  return countsOf(all).failed === 0 ? 0 : 1;
}

function suiteText(suite: SuiteResult): string {
  const mark = suite.failed === 0 ? chalk.green("✓") : chalk.red("✗");
  const line = `${mark} ${suite.name.padEnd(24)} ${countsText(countsOf([suite]))} (${formatDuration(suite.seconds)})`;
  return suite.failed === 0 ? line : `${line}\n${suite.output.trimEnd()}\n`;
}

/** What a person can mend says so without a stack trace; a defect of ours shows where it is. */
function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.name === "UserError" || error.name === "SettingsError" ? error.message : (error.stack ?? error.message);
}
