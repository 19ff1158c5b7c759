import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatBytes, formatDuration, parseBytes, parseDuration } from "../../stacks/settings/units.ts";

const FACTORS = { B: 1, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };
const unit = fc.constantFrom(...(Object.keys(FACTORS) as (keyof typeof FACTORS)[]));
const SECONDS = { s: 1, m: 60, h: 3600, d: 86400 };
const timeUnit = fc.constantFrom(...(Object.keys(SECONDS) as (keyof typeof SECONDS)[]));

describe("parseBytes", () => {
  test("a whole number with any unit is that many bytes, with or without a space", () => {
    fc.assert(
      fc.property(fc.nat(1000), unit, fc.constantFrom("", " "), (amount, name, space) => {
        expect(parseBytes(`${amount}${space}${name}`)).toBe(amount * FACTORS[name]);
      }),
    );
  });

  test("a fraction is rounded to whole bytes", () => {
    expect(parseBytes("1.5GiB")).toBe(1.5 * 2 ** 30);
    expect(parseBytes("0.3KB")).toBe(300);
    expect(parseBytes("1.0001KiB")).toBe(1024);
  });

  test.each(["", "8", "8G", "8 Gib", "gib", "-8GiB", "8GiB8", "8,5GiB", "1e3MB", "GiB", "8 GiB MiB", ".5GiB"])(
    "%j is no size",
    (text) => {
      expect(parseBytes(text)).toBeUndefined();
    },
  );
});

describe("parseDuration", () => {
  test("amounts with units add up", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(1000), timeUnit), { minLength: 1, maxLength: 4 }), (parts) => {
        const text = parts.map(([amount, name]) => `${amount}${name}`).join("");
        expect(parseDuration(text)).toBe(parts.reduce((sum, [amount, name]) => sum + amount * SECONDS[name], 0));
      }),
    );
  });

  test("fractions are taken as they are", () => {
    expect(parseDuration("1.5h")).toBe(5400);
    expect(parseDuration("0.5s")).toBe(0.5);
  });

  test.each(["", "30", "30 m", "m30", "1h30", "-1h", "1w", "1h-2m", "1H"])("%j is no duration", (text) => {
    expect(parseDuration(text)).toBeUndefined();
  });
});

describe("formatBytes", () => {
  test("what it prints is a size within 5 % of the bytes, in the largest unit that leaves one whole", () => {
    fc.assert(
      fc.property(fc.double({ min: 0, max: 2 ** 49, noNaN: true }).map(Math.floor), (bytes) => {
        const text = formatBytes(bytes);
        const [amount, name] = text.split(" ");
        const parsed = parseBytes(text);
        expect(parsed).toBeDefined();
        expect(Math.abs((parsed ?? 0) - bytes)).toBeLessThanOrEqual(bytes * 0.05);
        if (name !== "TiB") expect(Number(amount)).toBeLessThan(1024);
        if (name !== "B") expect(Number(amount)).toBeGreaterThanOrEqual(1);
      }),
    );
  });

  test.each([
    [0, "0 B"],
    [1023, "1023 B"],
    [1024, "1 KiB"],
    [1536, "1.5 KiB"],
    [2 ** 20 - 1, "1 MiB"],
    [512 * 2 ** 20, "512 MiB"],
    [16.25 * 2 ** 30, "16.3 GiB"],
    [2 ** 50, "1024 TiB"],
  ])("%d is %j", (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });
});

describe("formatDuration", () => {
  test("has at most two units, the smaller below one of the larger, and loses less than the smaller unit", () => {
    const units = { s: 1, min: 60, h: 3600, d: 86400 };
    fc.assert(
      fc.property(fc.nat(400 * 86400), (seconds) => {
        const parts = [...formatDuration(seconds).matchAll(/(\d+) (s|min|h|d)/g)].map(([, amount, name]) => ({
          amount: Number(amount),
          size: units[name as keyof typeof units],
        }));
        const [first, second] = parts;
        expect(parts.length === 1 || parts.length === 2).toBe(true);
        if (first !== undefined && second !== undefined) expect(second.amount * second.size).toBeLessThan(first.size);
        const shown = parts.reduce((sum, { amount, size }) => sum + amount * size, 0);
        const finest = { 1: 1, 60: 1, 3600: 60, 86400: 3600 }[first?.size ?? 1] ?? 1;
        expect(seconds - shown).toBeGreaterThanOrEqual(0);
        expect(seconds - shown).toBeLessThan(finest);
      }),
    );
  });

  test.each([
    [-3, "0 s"],
    [0.4, "0 s"],
    [59.6, "1 min"],
    [200, "3 min 20 s"],
    [7500, "2 h 5 min"],
    [7200, "2 h"],
    [273600, "3 d 4 h"],
  ])("%d s is %j", (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });
});
