import { chalk } from "zx";
import { formatDuration } from "../../stacks/settings/units.ts";

/** Tells what a step is doing while it goes on. */
export type Report = (message: string) => void;

/** How often a step that goes on says so where there is no terminal, in milliseconds. */
const QUIET_INTERVAL_MS = 15_000;
const TERMINAL_INTERVAL_MS = 120;
const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/**
 * Runs one step and prints one line for it: what it is, what came of it, and how long it took where that was over two
 * seconds. On a terminal the line moves while the step goes on; elsewhere a step that takes long says so now and then.
 * @param body returns what came of it, in a few words. Example: `already there`.
 */
export async function step<T>(
  title: string,
  body: (report: Report) => Promise<{ said: string; value: T }>,
): Promise<T> {
  const started = Date.now();
  const line = process.stderr.isTTY ? terminalLine(title, started) : quietLine(title, started);
  try {
    const { said, value } = await body(line.report);
    line.end(chalk.green("✓"), said);
    return value;
  } catch (error) {
    line.end(chalk.red("✗"), "failed");
    throw error;
  }
}

interface Line {
  readonly report: Report;
  readonly end: (mark: string, said: string) => void;
}

function terminalLine(title: string, started: number): Line {
  let message = "";
  let frame = 0;
  const draw = () => {
    frame += 1;
    const text = `${FRAMES[frame % FRAMES.length]} ${title}${elapsed(started)}${message === "" ? "" : ` · ${message}`}`;
    process.stderr.write(`\r\x1b[2K${text.slice(0, (process.stderr.columns ?? 80) - 1)}`);
  };
  const timer = setInterval(draw, TERMINAL_INTERVAL_MS);
  draw();
  return {
    report: (text) => {
      message = oneLine(text);
    },
    end: (mark, said) => {
      clearInterval(timer);
      process.stderr.write(`\r\x1b[2K${closing(mark, title, said, started)}\n`);
    },
  };
}

function quietLine(title: string, started: number): Line {
  let message = "";
  const timer = setInterval(() => {
    console.error(`… ${title}${elapsed(started)}${message === "" ? "" : ` · ${message}`}`);
  }, QUIET_INTERVAL_MS);
  return {
    report: (text) => {
      message = oneLine(text);
    },
    end: (mark, said) => {
      clearInterval(timer);
      console.error(closing(mark, title, said, started));
    },
  };
}

function closing(mark: string, title: string, said: string, started: number): string {
  return `${mark} ${title.padEnd(24)} ${said}${chalk.dim(elapsed(started))}`;
}

function elapsed(started: number): string {
  const seconds = (Date.now() - started) / 1000;
  return seconds < 2 ? "" : ` (${formatDuration(seconds)})`;
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ").trim();
}
