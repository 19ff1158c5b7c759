import { attachedTo, type HourlyPrice, machinePrice, PRICE_SOURCE } from "../../../stacks/settings/gcp-prices.ts";
import type { RunStatus } from "../run-status.ts";
import type { CloudStack, VmStatus } from "./vm.ts";

/** What the VM and the run on it cost, in US dollars. */
export interface RunCost {
  readonly machineType: string;
  readonly provisioning: "spot" | "standard";
  /** List price of the machine with its GPU; undefined where it is not known. */
  readonly perHour: HourlyPrice | undefined;
  /** What is left of the run at the speed that was measured; undefined while there is none. */
  readonly left: number | undefined;
  /** The run from its first step to its last at that speed. */
  readonly whole: number | undefined;
  readonly pricesOf: string;
}

/** The cost of a VM, and of the run that it is at, from the price by the hour and the run's measured speed. */
export function runCost(
  { cloud }: CloudStack,
  { machineType }: Pick<VmStatus, "machineType">,
  status: Pick<RunStatus, "step" | "max_steps" | "eta_seconds"> | undefined,
): RunCost {
  const perHour = machinePrice(machineType, cloud.region, attachedTo(machineType));
  const { provisioning } = cloud;
  const measured = { step: status?.step, maxSteps: status?.max_steps, secondsLeft: status?.eta_seconds };
  const cost = costAtSpeed(perHour?.[provisioning], measured);
  return { machineType, provisioning, perHour, left: cost?.left, whole: cost?.whole, pricesOf: PRICE_SOURCE.date };
}

/** How far a run is, and how long it still takes at the speed that was measured. */
export interface Measured {
  readonly step: number | undefined;
  readonly maxSteps: number | null | undefined;
  readonly secondsLeft: number | null | undefined;
}

/** What a run costs from its first step to its last, and what is left of that; undefined while there is no speed. */
export function costAtSpeed(
  perHour: number | undefined,
  { step, maxSteps, secondsLeft }: Measured,
): { readonly left: number; readonly whole: number } | undefined {
  if (perHour === undefined || step === undefined || maxSteps == null || secondsLeft == null || maxSteps <= step)
    return undefined;
  const left = (perHour * secondsLeft) / 3600;
  return { left, whole: (left / (maxSteps - step)) * maxSteps };
}

/** The cost as one line: by the hour, on spot and standard, and of the run. */
export function costText({ machineType, provisioning, perHour, left, whole, pricesOf }: RunCost): string {
  if (perHour === undefined) return `price of ${machineType} not known`;
  const other = provisioning === "spot" ? "standard" : "spot";
  const price = `$${perHour[provisioning].toFixed(2)} an hour on ${provisioning} (${other} $${perHour[other].toFixed(2)}; ${machineType}, list price of ${pricesOf})`;
  if (left === undefined || whole === undefined) return price;
  return `${price}; the run $${whole.toFixed(2)} at this speed, $${left.toFixed(2)} of it to go`;
}
