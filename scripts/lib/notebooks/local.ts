import { readFileSync } from "node:fs";
import { chalk } from "zx";
import type { StackOutputs } from "../../../stacks/outputs.ts";
import { EXIT, UserError } from "../errors.ts";
import { openWorkloads } from "../open-workloads.ts";
import { setPersonal, setPersonalAt } from "../personal.ts";
import { secretFile } from "../setup/secrets.ts";
import { setUp } from "../setup/setup.ts";
import { readInputs } from "../stack.ts";
import { up, withProfiles } from "../train.ts";
import { waitForServices } from "../wait.ts";

/**
 * Opens this machine's Jupyter to Colab's pages and prints what is pasted there.
 * @throws UserError where Jupyter is left out of the stack or does not come up.
 */
export async function openLocalSession(stack: string): Promise<void> {
  await setUp(stack);
  setPersonal(stack, { profiles: withProfiles(readInputs(stack), ["dev"]) });
  setPersonalAt(stack, ["services", "jupyter", "colab"], true);
  const outputs = await up(stack);
  await waitForServices(await openWorkloads(outputs), outputs);
  console.log(pasteText(colabAddress(outputs, readFileSync(secretFile(stack, "jupyter-token"), "utf8").trim())));
}

/**
 * The address that Colab's dialogue "Connect to a local runtime" takes: by name, since Colab's page looks for
 * `localhost`, and with the token, without which Jupyter lets nobody in.
 */
export function colabAddress(outputs: Pick<StackOutputs, "services" | "stack">, token: string): string {
  const jupyter = outputs.services.find(({ name }) => name === "jupyter");
  if (jupyter?.url === undefined) {
    throw new UserError(
      [
        {
          path: "services.jupyter",
          reason: "is left out of the stack",
          remedy: "npx pulumi config set --path 'tunestack:services.jupyter.enabled' true, then the same command again",
        },
      ],
      EXIT.settings,
      "settings",
    );
  }
  return `http://localhost:${new URL(jupyter.url).port}/?token=${encodeURIComponent(token)}`;
}

function pasteText(address: string): string {
  return [
    "",
    "In Colab: arrow beside Connect → Connect to a local runtime → paste",
    `  ${chalk.bold(address)}`,
    "The browser asks whether colab.research.google.com may reach this machine: allow it.",
    chalk.dim(
      "The address lets whoever has it run code in the container: keep it to yourself, and share no notebook from it",
    ),
    chalk.dim(
      "that you have not read. To end this: npx pulumi config set --path 'tunestack:services.jupyter.colab' false",
    ),
  ].join("\n");
}
