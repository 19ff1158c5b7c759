import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { makePlan } from "../../stacks/plan/plan.ts";
import { SECRET_NAMES } from "../../stacks/settings/load.ts";
import { LABELS } from "../../stacks/targets/docker/render.ts";
import { agentModules } from "../../stacks/targets/gcp-vm/declare.ts";
import { renderBoot } from "../../stacks/targets/gcp-vm/render-boot.ts";
import { composeText, renderCompose } from "../../stacks/targets/gcp-vm/render-compose.ts";
import { BOOT_OPTIONS } from "../lib/boot.ts";
import { expectGolden } from "../lib/golden.ts";
import { gcpInputs, type InputChanges } from "../lib/inputs.ts";

function compose(changes: InputChanges = {}) {
  return renderCompose(makePlan(gcpInputs({ secrets: SECRET_NAMES, ...changes })), "prod@/project", {
    image: (reference) => (reference.kind === "stage" ? `<image ${reference.stage}>` : "<image from a registry>"),
  });
}

describe("the compose file", () => {
  test("of a stack with all profiles and all secrets", () => {
    const text = JSON.stringify(compose(), (key, value: unknown) =>
      key === LABELS.specification ? "<hash>" : value,
    );
    expectGolden("gcp-vm/compose.json", JSON.parse(text));
  });

  test("gives Jupyter the GPU, and keeps it from Jupyter where that is set", () => {
    const jupyter = (gpu: boolean) => compose({ settings: { services: { jupyter: { gpu } } } }).services.jupyter;
    const asked = { resources: { reservations: { devices: [{ driver: "nvidia" }] } } };
    expect(jupyter(true)).toMatchObject({ deploy: asked });
    expect(jupyter(false)).not.toHaveProperty("deploy");
    expect(jupyter(false)).toMatchObject({ environment: { NVIDIA_VISIBLE_DEVICES: "void" } });
  });

  test("keeps dollar signs, for which compose would put variables in", () => {
    const settings = { training: { preset: "rehearsal", run: "r", set: { chat_template: "a $HOME b" } } };
    const read: unknown = parse(composeText(compose({ settings })));
    expect(JSON.stringify(read)).toContain("a $$HOME b");
  });

  test("is hardened in every service", () => {
    for (const [name, service] of Object.entries(compose().services)) {
      expect(service.cap_drop, name).toEqual(["ALL"]);
      expect(service.security_opt, name).toEqual(["no-new-privileges:true"]);
      expect(service.pids_limit, name).toBeGreaterThan(0);
      for (const port of service.ports ?? []) expect(port, name).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
      for (const tmpfs of service.tmpfs) expect(tmpfs, name).toMatch(/nosuid,nodev,size=\d+/);
      if (name === "wandb-local") continue;
      expect(service, name).toMatchObject({ user: "1000:1000", read_only: true });
      if (name !== "qlora-training") expect(service.mem_limit, name).toBeGreaterThan(0);
    }
  });

  test("mounts nothing of the machine on which it was made", () => {
    expect(JSON.stringify(compose()).replaceAll('"prod@/project"', "")).not.toContain("/project");
  });
});

describe("the boot script", () => {
  const script = renderBoot(BOOT_OPTIONS);

  test("step by step", () => {
    expectGolden("gcp-vm/boot.json", script.split("\n"));
  });

  test("fits into a metadata value, which Google takes up to 256 KB, with the real agent in it", () => {
    const agent = agentModules();
    expect(Object.keys(agent)).toContain("agent.py");
    expect(Buffer.byteLength(renderBoot({ ...BOOT_OPTIONS, agent }))).toBeLessThan(256_000);
    expect(Object.values(agent).join("")).not.toContain("TUNESTACK_AGENT\n");
  });
});
