import { describe, expect, test } from "vitest";
import { cloneAddress } from "../../scripts/lib/notebooks/addresses.ts";
import { daemonNotebook } from "../../scripts/lib/notebooks/daemon.ts";
import { makeNotebook, type Notebook, notebookText, pythonLiteral } from "../../scripts/lib/notebooks/document.ts";
import { folderName } from "../../scripts/lib/notebooks/shared-cells.ts";
import { DEFAULT_LINKS, type TrainNotebook, trainNotebook } from "../../scripts/lib/notebooks/train.ts";
import { expectGolden } from "../lib/golden.ts";

/** The Python tests execute the golden notebooks with other addresses in place of these. */
const TOOLS = "https://git.example/team/tunestack.git";

const OURS: TrainNotebook = {
  tools: TOOLS,
  repository: undefined,
  needs: "images/qlora",
  extras: ["cu126"],
  command: undefined,
  resume: "",
  links: [...DEFAULT_LINKS, "logs"],
  checkpoints: "checkpoints",
  run: "colab",
  preset: "gemma-2b",
  data: "examples/data/tunestack-help.jsonl",
  set: {},
};

const THEIRS: TrainNotebook = {
  ...OURS,
  repository: "https://git.example/someone/vision.git",
  needs: ".",
  extras: [],
  command: "python train.py --epochs 3",
  resume: "--resume {checkpoint}",
  links: DEFAULT_LINKS,
};

const QUEUE = { tools: TOOLS, repository: "https://git.example/someone/vision.git", branch: "gpu-experiments" };

const WRITTEN: readonly (readonly [string, Notebook, readonly string[]])[] = [
  ["colab_gpu_daemon", daemonNotebook(QUEUE), DAEMON_ORDER()],
  ["colab_train", trainNotebook(OURS), TRAIN_ORDER()],
  ["colab_train_other", trainNotebook(THEIRS), TRAIN_ORDER()],
];

function DAEMON_ORDER(): readonly string[] {
  return ["Check the GPU", "Mount Drive", "Git access", "Clone", "Install", "Run the runner", "Watch it"];
}

function TRAIN_ORDER(): readonly string[] {
  const titles = ["Mount Drive", "Install", "Clone", "Link", "Settings", "W&B and Hugging Face", "Train"];
  return [...titles, "Export the best model"];
}

const sourceOf = ({ source }: { readonly source: readonly string[] }) => source.join("");

describe.each(WRITTEN)("%s", (name, notebook, order) => {
  test("is what it was", () => expectGolden(`notebooks/${name}.ipynb`, notebook));

  test("has its cells in the order that is promised, each under its heading", () => {
    const headings = notebook.cells.flatMap((cell) =>
      cell.cell_type === "markdown" ? [/^## \d+\. (.*)$/m.exec(sourceOf(cell))?.[1] ?? ""] : [],
    );
    expect(headings.filter((heading) => heading !== "")).toEqual(order);
  });

  test("has identifiers of its own for its cells, no outputs, and no secret", () => {
    expect(new Set(notebook.cells.map(({ id }) => id)).size).toBe(notebook.cells.length);
    for (const cell of notebook.cells) if (cell.cell_type === "code") expect(cell.outputs).toEqual([]);
  });

  test("is written the same twice", () => {
    expect(notebookText(notebook)).toBe(notebookText(JSON.parse(notebookText(notebook))));
  });
});

test("lines keep their ends, and an empty cell has none", () => {
  const [, cell] = makeNotebook([{ title: "x", text: "y", code: "a = 1\nb = 2" }], { gpu: false }).cells;
  expect(cell).toMatchObject({ source: ["a = 1\n", "b = 2"], execution_count: null });
});

test.each([
  [{ a: [1, true, null, "x\"'\n"] }, '{"a": [1, True, None, "x\\"\'\\n"]}'],
  [[], "[]"],
  [{}, "{}"],
])("%j as Python writes it", (value, expected) => expect(pythonLiteral(value)).toBe(expected));

test.each([
  ["https://git.example/a/b.git", "b"],
  ["git@git.example:a/my-repo", "my-repo"],
  ["https://git.example/a/odd name", "odd-name"],
])("%s is cloned into %s", (url, folder) => expect(folderName(url)).toBe(folder));

test.each([
  ["git@git.example:a/b.git", "https://git.example/a/b.git"],
  ["ssh://git@git.example:2222/a/b.git", "https://git.example/a/b.git"],
  ["https://me:t0ken@git.example/a/b.git", "https://git.example/a/b.git"],
])("%s is cloned from %s", (given, expected) => expect(cloneAddress(given, "--repo")).toBe(expected));

test("a folder of this machine is no address for Colab", () => {
  expect(() => cloneAddress("../b", "--repo")).toThrow(/--repo = \.\.\/b\n\s+is no address that Colab could clone/);
});
