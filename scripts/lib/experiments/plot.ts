import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { TopLevelSpec } from "vega-lite";

/** An experiment of a sweep that ended, with what it was given and what it measured. */
export interface SweepPoint {
  readonly experiment: string;
  /** From the matrix. Example: `{ lr: 0.0001, rank: 32 }`. */
  readonly parameters: Readonly<Record<string, string | number | boolean>>;
  /** Example: `{ eval_loss: 1.93 }`. */
  readonly metrics: Readonly<Record<string, number>>;
}

const WIDTH = 560;
const HEIGHT = 220;
/** More panels than this make a picture that nobody reads; the table has them all. */
const MOST_METRICS = 6;
/** Logarithmic from here: learning rates come in powers, batch sizes too. */
const WIDE_SPAN = 20;

/**
 * The metrics of a sweep over its parameters, one panel for each metric: the parameter with the most values along the
 * axis, the next one by colour, further ones by shape.
 * @returns undefined where there is nothing to compare: fewer than two points, or no metric that two of them share.
 */
export function sweepChart(points: readonly SweepPoint[], title: string): TopLevelSpec | undefined {
  const metrics = sharedMetrics(points);
  const [along, colour, shape] = varyingParameters(points);
  if (metrics.length === 0) return undefined;
  const values = points.map(({ experiment, parameters, metrics: measured }) => ({
    experiment,
    // A dot in a field's name means nesting to Vega.
    ...Object.fromEntries(Object.entries(parameters).map(([key, value]) => [`parameter ${plain(key)}`, value])),
    ...Object.fromEntries(Object.entries(measured).map(([key, value]) => [`metric ${plain(key)}`, value])),
  }));
  const x = axis(points, along);
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title,
    background: "white",
    data: { values },
    vconcat: metrics.map((metric) => ({
      width: WIDTH,
      height: HEIGHT,
      mark: { type: "line" as const, point: { size: 60, filled: true } },
      encoding: {
        x,
        y: {
          field: `metric ${plain(metric)}`,
          type: "quantitative" as const,
          title: metric,
          scale: { zero: false, nice: true },
        },
        ...(colour === undefined
          ? {}
          : { color: { field: `parameter ${plain(colour)}`, type: "nominal" as const, title: colour } }),
        ...(shape === undefined
          ? {}
          : {
              detail: { field: `parameter ${plain(shape)}` },
              strokeDash: { field: `parameter ${plain(shape)}`, title: shape },
            }),
      },
    })),
    config: { font: FONT, axis: { labelFontSize: 12, titleFontSize: 13 }, legend: { labelFontSize: 12 } },
  };
}

function axis(points: readonly SweepPoint[], along: string | undefined) {
  if (along === undefined) return { field: "experiment", type: "nominal" as const, title: "experiment" };
  const numbers = points.map(({ parameters }) => parameters[along]).filter((value) => typeof value === "number");
  const field = `parameter ${plain(along)}`;
  if (numbers.length < points.length) return { field, type: "nominal" as const, title: along };
  const [least, most] = [Math.min(...numbers), Math.max(...numbers)];
  const wide = least > 0 && most / least >= WIDE_SPAN;
  return {
    field,
    type: "quantitative" as const,
    title: along,
    scale: wide ? ({ type: "log" } as const) : { zero: false },
  };
}

/** Metrics that at least two points have, so that there is something to compare. */
function sharedMetrics(points: readonly SweepPoint[]): readonly string[] {
  const counts = new Map<string, number>();
  for (const { metrics } of points) {
    for (const name of Object.keys(metrics)) counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return [...counts].flatMap(([name, count]) => (count >= 2 ? [name] : [])).slice(0, MOST_METRICS);
}

/** Parameters that differ between points, the one with the most values first. */
function varyingParameters(points: readonly SweepPoint[]): readonly string[] {
  const names = [...new Set(points.flatMap(({ parameters }) => Object.keys(parameters)))];
  return names
    .map((name) => ({ name, count: new Set(points.map(({ parameters }) => parameters[name])).size }))
    .filter(({ count }) => count > 1)
    .sort((a, b) => b.count - a.count)
    .map(({ name }) => name);
}

function plain(name: string): string {
  return name.replaceAll(/[.[\]\\'"]/g, "_");
}

const FONT = "DejaVu Sans";

/** Draws a chart as PNG. The libraries are loaded here, because no other command needs them. */
export async function drawChart(chart: TopLevelSpec): Promise<Buffer> {
  const [{ compile }, vega, { Resvg }] = await Promise.all([
    import("vega-lite"),
    import("vega"),
    import("@resvg/resvg-js"),
  ]);
  const view = new vega.View(vega.parse(compile(chart).spec), { renderer: "none", logLevel: vega.Error });
  const svg = await view.toSVG();
  view.finalize();
  // Servers have no fonts, and text without one is left out of the picture.
  const fonts = join(dirname(createRequire(import.meta.url).resolve("dejavu-fonts-ttf/package.json")), "ttf");
  const font = {
    fontFiles: [join(fonts, "DejaVuSans.ttf"), join(fonts, "DejaVuSans-Bold.ttf")],
    loadSystemFonts: false,
    defaultFontFamily: FONT,
  };
  return new Resvg(svg, { font, fitTo: { mode: "zoom", value: 2 }, background: "white" }).render().asPng();
}
