import { afterEach, describe, expect, test, vi } from "vitest";
import { EXIT, UserError } from "../../scripts/lib/errors.ts";
import { type CommandSpec, helpText, parseCommand } from "../../scripts/lib/options.ts";
import { formatTable } from "../../scripts/lib/table.ts";

const SPEC: CommandSpec = {
  name: "train-custom",
  summary: "Trains.",
  options: {
    model: { type: "string", value: "ID", help: "the model" },
    set: { type: "string", multiple: true, value: "KEY=VALUE", help: "a setting" },
    fix: { type: "boolean", help: "mends" },
  },
  operands: { names: "SERVICE", atMost: 1, help: "a service" },
  json: true,
  examples: ["npm run train-custom -- --model x"],
};

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

function refused(argv: readonly string[], spec: CommandSpec = SPEC): UserError {
  try {
    parseCommand(spec, argv);
  } catch (error) {
    if (error instanceof UserError) return error;
    throw error;
  }
  throw new Error("it was taken");
}

describe("parseCommand", () => {
  test("takes options, repeated options, flags and words", () => {
    const parsed = parseCommand(SPEC, ["--model", "x", "--set", "a=1", "--set=b=2", "--fix", "jupyter"]);
    expect(parsed.text("model")).toBe("x");
    expect(parsed.list("set")).toEqual(["a=1", "b=2"]);
    expect(parsed.flag("fix")).toBe(true);
    expect(parsed.operands).toEqual(["jupyter"]);
    expect(parsed.json).toBe(false);
  });

  test("what was not given is undefined, empty or false", () => {
    const parsed = parseCommand(SPEC, []);
    expect([parsed.text("model"), parsed.list("set"), parsed.flag("fix"), parsed.operands]).toEqual([
      undefined,
      [],
      false,
      [],
    ]);
  });

  test("the stack is what was typed, else the environment's, else dev", () => {
    vi.stubEnv("STACK", "prod");
    expect(parseCommand(SPEC, ["--stack", "mine"]).stack).toBe("mine");
    expect(parseCommand(SPEC, []).stack).toBe("prod");
    vi.stubEnv("STACK", undefined);
    expect(parseCommand(SPEC, []).stack).toBe("dev");
  });

  test.each([
    [["--modle", "x"], "Unknown option '--modle'"],
    [["--model"], "Option '--model <value>' argument missing"],
    [["--fix=yes"], "Option '--fix' does not take an argument"],
    [["a", "b"], "takes at most 1 of SERVICE"],
  ])("%j is a mistake of the command line", (argv, reason) => {
    const error = refused(argv);
    expect(error.exitCode).toBe(EXIT.settings);
    expect(error.problems[0]?.reason).toContain(reason);
    expect(error.problems[0]?.remedy).toBe("npm run train-custom -- --help");
  });

  test("a command without words takes none", () => {
    const { operands: _, ...without } = SPEC;
    expect(refused(["jupyter"], without).problems[0]).toMatchObject({
      value: "jupyter",
      reason: "takes no words beside its options",
    });
  });

  test("--help prints and leaves with 0, before anything else is looked at", () => {
    const log = vi.spyOn(console, "log").mockImplementation(() => undefined);
    const exit = vi.spyOn(process, "exit").mockImplementation((code) => {
      throw new Error(`exit ${code}`);
    });
    expect(() => parseCommand(SPEC, ["--nonsense", "--help"])).toThrow("exit 0");
    expect(log).toHaveBeenCalledExactlyOnceWith(helpText(SPEC));
    expect(exit).toHaveBeenCalledOnce();
  });
});

test("the help of a command", () => {
  expect(helpText(SPEC)).toBe(
    [
      "npm run train-custom -- [options] [SERVICE]",
      "",
      "Trains.",
      "",
      "  SERVICE          a service",
      "  --model ID       the model",
      "  --set KEY=VALUE  a setting",
      "  --fix            mends",
      "  --json           prints one JSON object",
      "  --stack NAME     stack to work on (default: dev; environment: STACK)",
      "  --help           prints this",
      "",
      "Examples:",
      "  npm run train-custom -- --model x",
    ].join("\n"),
  );
});

describe("formatTable", () => {
  test("columns are as wide as their widest cell, without blanks at the end", () => {
    expect(
      formatTable(
        ["A", "LONG"],
        [
          ["one", "x"],
          ["–", "yy"],
        ],
      ),
    ).toBe(["A    LONG", "───  ────", "one  x", "–    yy"].join("\n"));
  });

  test("colour takes no room, and a missing cell is empty", () => {
    const red = "\x1b[31mhot\x1b[39m";
    expect(formatTable(["S", "T"], [[red, "1"], ["long one"]])).toBe(
      ["S         T", "────────  ─", `${red}       1`, "long one"].join("\n"),
    );
  });
});
