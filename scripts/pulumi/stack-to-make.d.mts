export function stackToMake(
  args: readonly string[],
  projectDir: string,
  environment: Readonly<Record<string, string | undefined>>,
): string | undefined;
