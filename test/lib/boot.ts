import type { BootOptions } from "../../stacks/targets/gcp-vm/render-boot.ts";

/** A boot script of the tests; the agent is put in where it is run. */
export const BOOT_OPTIONS: BootOptions = {
  project: "team-ml",
  region: "us-central1",
  group: "tunestack-prod",
  bucket: "team-ml-tunestack-prod",
  secrets: ["jupyter-token", "hf-token", "wandb-api-key", "restic-password"],
  maximumRunSeconds: 86400,
  idleShutdownSeconds: 1800,
  agent: { "agent.py": "# the agent", "machine.py": "# a module" },
};
