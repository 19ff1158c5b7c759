/** Inline code that nothing in the text can end; a table's bars are kept apart from its own. */
export function code(value: string): string {
  const longest = Math.max(0, ...[...value.matchAll(/`+/g)].map(([ticks]) => ticks.length));
  const fenceOf = "`".repeat(longest + 1);
  const padding = longest > 0 ? " " : "";
  return `${fenceOf}${padding}${value.replaceAll("|", "\\|")}${padding}${fenceOf}`;
}

/** Words outside code: no mention of a person, no markup and no table bar. */
export function text(value: string): string {
  return value.replaceAll(/[|<>*_`[\]]/g, "\\$&").replaceAll("@", "@\u200b");
}
