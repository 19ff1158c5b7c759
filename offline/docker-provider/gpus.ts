import type { DeviceRequest } from "dockerode";

/** Fields of a line of comma-separated values in which quotes keep commas together. */
function fields(line: string): readonly string[] {
  return (line.match(/("([^"]|"")*"|[^,]+)/g) ?? []).map((one) => one.replace(/^"|"$/g, "").replaceAll('""', '"'));
}

function withoutQuotes(value: string): string {
  const bare = value.trim();
  const quoted = bare.length >= 2 && (/^".*"$/.test(bare) || /^'.*'$/.test(bare));
  return quoted ? withoutQuotes(bare.slice(1, -1)) : bare;
}

function count(value: string): number {
  if (value === "all") return -1;
  if (/^[+-]?\d+$/.test(value)) return Number(value);
  throw new Error(`Error setting gpus: count must be an integer: ${value}`);
}

/** What `--gpus` of Docker's command line means: `all`, a number, or `device=…,driver=…,capabilities=…`. */
export function gpuRequest(setting: string): DeviceRequest {
  const request: DeviceRequest = { Driver: "", Count: 0, Options: {} };
  const seen = new Set<string>();
  for (const one of fields(withoutQuotes(setting))) {
    const [name = "", ...rest] = one.split("=");
    const key = rest.length === 0 ? "count" : name;
    const value = rest.length === 0 ? one : rest.join("=");
    if (seen.has(key)) throw new Error(`Error setting gpus: gpu request key '${key}' can be specified only once`);
    seen.add(key);
    if (key === "count") request.Count = count(value);
    else if (key === "driver") request.Driver = value;
    else if (key === "device") request.DeviceIDs = value.split(",");
    else if (key === "capabilities") request.Capabilities = [[...value.split(","), "gpu"]];
    else if (key === "options") {
      request.Options = Object.fromEntries(
        fields(value).map((option) => [option.split("=")[0] ?? "", option.slice(option.indexOf("=") + 1)]),
      );
    } else throw new Error(`Error setting gpus: unexpected key '${key}' in '${one}'`);
  }
  if (request.Count === 0 && request.DeviceIDs === undefined) request.Count = 1;
  request.Capabilities ??= [["gpu"]];
  return request;
}

/** The setting that makes given device requests, or undefined where none can say it. */
export function gpuSetting(requests: readonly DeviceRequest[]): string | undefined {
  if (requests.length === 0) return "";
  const [first] = requests;
  if (requests.length > 1 || first === undefined) return undefined;
  if (first.DeviceIDs && first.DeviceIDs.length > 0) return `device=${first.DeviceIDs.join(",")}`;
  const gpu = (first.Capabilities ?? []).flat().some((capability) => capability.toLowerCase() === "gpu");
  return first.Count === -1 && gpu ? "all" : undefined;
}
