/** Rows under a header, each column as wide as its widest cell. Cells may hold colour; its codes take no room. */
export function formatTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = header.map((title, column) => Math.max(width(title), ...rows.map((row) => width(row[column] ?? ""))));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => cell + " ".repeat((widths[column] ?? 0) - width(cell)))
      .join("  ")
      .trimEnd();
  return [line(header), line(widths.map((size) => "─".repeat(size))), ...rows.map(line)].join("\n");
}

function width(text: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colour codes begin with the escape character
  return [...text.replaceAll(/\x1b\[[0-9;]*m/g, "")].length;
}
