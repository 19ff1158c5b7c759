import { createHash } from "node:crypto";

/** A cell as people write it; its identifier is made of its title, so that a notebook written again is the same. */
export interface Cell {
  /** Heading above a code cell; the notebook's own title in the first. */
  readonly title: string;
  /** Markdown below the heading. */
  readonly text: string;
  /** Python; a cell without it is text alone. */
  readonly code?: string;
}

/** Jupyter's format, version 4.5: https://nbformat.readthedocs.io/en/latest/format_description.html */
export interface Notebook {
  readonly nbformat: 4;
  readonly nbformat_minor: 5;
  readonly metadata: object;
  readonly cells: readonly NotebookCell[];
}

type NotebookCell =
  | {
      readonly cell_type: "markdown";
      readonly id: string;
      readonly metadata: object;
      readonly source: readonly string[];
    }
  | {
      readonly cell_type: "code";
      readonly id: string;
      readonly metadata: object;
      readonly execution_count: null;
      readonly outputs: readonly [];
      readonly source: readonly string[];
    };

/** The notebook as Colab opens it, without outputs. `gpu` asks Colab for a session with one. */
export function makeNotebook(cells: readonly Cell[], { gpu }: { readonly gpu: boolean }): Notebook {
  return {
    nbformat: 4,
    nbformat_minor: 5,
    metadata: {
      kernelspec: { display_name: "Python 3", language: "python", name: "python3" },
      language_info: { name: "python" },
      colab: { provenance: [], toc_visible: true },
      ...(gpu ? { accelerator: "GPU" } : {}),
    },
    cells: cells.flatMap(toNotebookCells),
  };
}

function toNotebookCells({ title, text, code }: Cell, index: number): readonly NotebookCell[] {
  const heading = index === 0 ? `# ${title}` : `## ${index}. ${title}`;
  const markdown: NotebookCell = {
    cell_type: "markdown",
    id: identifier("text", title),
    metadata: {},
    source: lines(`${heading}\n\n${text.trim()}`),
  };
  if (code === undefined) return [markdown];
  return [
    markdown,
    {
      cell_type: "code",
      id: identifier("code", title),
      metadata: {},
      execution_count: null,
      outputs: [],
      source: lines(code.trim()),
    },
  ];
}

function identifier(kind: string, title: string): string {
  return createHash("sha256").update(`${kind} ${title}`).digest("hex").slice(0, 12);
}

function lines(text: string): readonly string[] {
  return text.split(/(?<=\n)/);
}

/** The file's text, as Jupyter itself writes it: one space of indentation. */
export function notebookText(notebook: Notebook): string {
  return `${JSON.stringify(notebook, null, 1)}\n`;
}

type Literal = string | number | boolean | null | readonly Literal[] | { readonly [key: string]: Literal };

/** A value as Python writes it; JSON's texts and numbers are Python's, too. */
export function pythonLiteral(value: Literal): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  if (isList(value)) return `[${value.map(pythonLiteral).join(", ")}]`;
  return `{${Object.entries(value)
    .map(([key, inner]) => `${JSON.stringify(key)}: ${pythonLiteral(inner)}`)
    .join(", ")}}`;
}

function isList(value: Literal): value is readonly Literal[] {
  return Array.isArray(value);
}
