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
  const costOf = (seconds: number) => (perHour === undefined ? undefined : (perHour[provisioning] * seconds) / 3600);
  const seconds = status?.eta_seconds ?? undefined;
  const steps = status?.max_steps ?? undefined;
  const known = status !== undefined && seconds !== undefined && steps !== undefined && steps > status.step;
  return {
    machineType,
    provisioning,
    perHour,
    left: known ? costOf(seconds) : undefined,
    whole: known ? costOf((seconds / (steps - status.step)) * steps) : undefined,
    pricesOf: PRICE_SOURCE.date,
  };
}

/** The cost as one line: by the hour, on spot and standard, and of the run. */
export function costText({ machineType, provisioning, perHour, left, whole, pricesOf }: RunCost): string {
  if (perHour === undefined) return `price of ${machineType} not known`;
  const other = provisioning === "spot" ? "standard" : "spot";
  const price = `$${perHour[provisioning].toFixed(2)} an hour on ${provisioning} (${other} $${perHour[other].toFixed(2)}; ${machineType}, list price of ${pricesOf})`;
  if (left === undefined || whole === undefined) return price;
  return `${price}; the run $${whole.toFixed(2)} at this speed, $${left.toFixed(2)} of it to go`;
}
