import type * as gcp from "@pulumi/gcp";
import type { CloudSettings } from "../../settings/google-cloud.ts";
import type { CloudNames } from "./names.ts";

/** Left on when the stack goes: something else in the project may have come to need it. */
export function renderService({ project }: CloudNames, service: string): gcp.projects.ServiceArgs {
  return { project, service: `${service}.googleapis.com`, disableOnDestroy: false };
}

/** Word to the billing account's administrators at half, four fifths and all of a month's money; it stops nothing. */
export function renderBudget(
  { project, prefix }: CloudNames,
  { monthly, billingAccount }: NonNullable<CloudSettings["budget"]>,
): gcp.billing.BudgetArgs {
  const units = Math.floor(monthly);
  const nanos = Math.round((monthly - units) * 1e9);
  return {
    billingAccount,
    displayName: prefix,
    budgetFilter: { projects: [`projects/${project}`], calendarPeriod: "MONTH" },
    amount: { specifiedAmount: { currencyCode: "USD", units: String(units), ...(nanos === 0 ? {} : { nanos }) } },
    thresholdRules: [0.5, 0.8, 1].map((thresholdPercent) => ({ thresholdPercent })),
  };
}
