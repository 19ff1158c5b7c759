import { z } from "zod";
import schema from "../../schemas/run-settings.schema.json" with { type: "json" };

/** A setting of `tunestack_train` as it tells it in JSON Schema, with what is allowed in words. */
interface RunSetting {
  readonly allowed: string;
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
  readonly maximum?: number;
}

const runValue = z.union([z.string(), z.number(), z.boolean()]);
/** What a setting of the training may be given as: text is read as on a command line. */
type RunValue = z.output<typeof runValue>;

const SETTINGS: Readonly<Record<string, RunSetting>> = schema.properties;

/** Any setting of `tunestack_train` by its name, checked as the container will, before anything is made for it. */
export const runSettingsSchema = z.strictObject(
  Object.fromEntries(Object.entries(SETTINGS).map(([name, setting]) => [name, checkedBy(setting).optional()])),
) as z.ZodType<Readonly<Record<string, RunValue>>>;

function checkedBy(setting: RunSetting) {
  return runValue.check(({ value, issues }) => {
    const reason = whyNot(setting, value);
    if (reason === undefined) return;
    const params = { remedy: `give ${setting.allowed}` };
    issues.push({ code: "custom", input: value, message: reason, params });
  });
}

/** Why a value cannot be used, in the words that the container has for it. */
function whyNot(setting: RunSetting, value: RunValue): string | undefined {
  const text = String(value);
  if (setting.enum !== undefined) return setting.enum.includes(text) ? undefined : "is not one of the choices";
  switch (setting.type) {
    case "boolean":
      return FLAGS.includes(text.toLowerCase()) ? undefined : "is neither true nor false";
    case "integer":
      return /^[+-]?\d+$/.test(text) ? outside(setting, Number(text)) : "is not a whole number";
    case "number":
      return isNumber(text) ? outside(setting, Number(text)) : "is not a number";
    default:
      return new RegExp(setting.pattern ?? "").test(text) ? undefined : "cannot be used here";
  }
}

const FLAGS: readonly string[] = ["true", "yes", "1", "false", "no", "0"];

function isNumber(text: string): boolean {
  return text.trim() !== "" && !Number.isNaN(Number(text));
}

function outside({ minimum, exclusiveMinimum, maximum }: RunSetting, number: number): string | undefined {
  if (minimum !== undefined && number < minimum) return `is less than ${minimum}`;
  if (exclusiveMinimum !== undefined && number <= exclusiveMinimum) return `is not above ${exclusiveMinimum}`;
  if (maximum !== undefined && number > maximum) return `is more than ${maximum}`;
  return undefined;
}
