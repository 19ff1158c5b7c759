import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { diff } from "../../offline/preview-provider/diff.ts";
import { pluginOf } from "../../offline/preview-provider/provider.ts";
import { versions } from "../../offline/recipes.ts";
import { placeStandIn } from "../../offline/stand-ins.ts";
import { Plugin } from "./lib/plugin.ts";

const URN = "urn:pulumi:prod::tunestack::gcp:compute/network:Network::tunestack-network";

describe("the folder of a plugin", () => {
  it("names the plugin and its version", () => {
    expect(pluginOf("resource-gcp-v9.37.0")).toEqual({ name: "gcp", version: "9.37.0" });
    expect(pluginOf("resource-docker-build-v0.0.22")).toEqual({ name: "docker-build", version: "0.0.22" });
  });

  it("is refused where it names none", () => {
    expect(() => pluginOf("bin")).toThrow(/bin is no folder of a resource plugin/);
  });
});

describe("changes of inputs", () => {
  it("are told leaf by leaf", () => {
    const before = { size: 10, disks: [{ type: "a" }, { type: "b" }], labels: { old: "1", same: "2" } };
    const after = { size: 20, disks: [{ type: "a" }], labels: { same: "2", "new": "3" }, __defaults: ["size"] };
    expect(diff(before, after)).toEqual([
      { path: "disks[1]", kind: "delete" },
      { path: "labels.new", kind: "add" },
      { path: "labels.old", kind: "delete" },
      { path: "size", kind: "update" },
    ]);
  });

  it("are none where nothing differs", () => {
    expect(diff({ a: [1, { b: null }] }, { a: [1, {}] })).toEqual([]);
  });
});

describe("a provider that only previews", () => {
  let folder: string;
  let plugin: Plugin;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "tunestack-preview-"));
    const program = join(folder, `resource-gcp-v${versions.gcpPlugin}`, "pulumi-resource-gcp");
    await placeStandIn("preview-provider", join(folder, "cache"), program);
    plugin = await Plugin.start(program);
  });

  afterAll(async () => {
    plugin.stop();
    await rm(folder, { recursive: true, force: true });
  });

  it("shows what would be created with its inputs", async () => {
    const inputs = { name: "tunestack", autoCreateSubnetworks: false };
    expect(await plugin.check(URN, inputs)).toEqual({ inputs, problems: [] });
    expect(await plugin.create(URN, inputs, true)).toEqual({ id: "", state: inputs });
  });

  it("says which inputs change", async () => {
    const { changes } = await plugin.diff(URN, "id", { mtu: 1460 }, { mtu: 8896 });
    expect(changes).toEqual([{ path: "mtu", replaces: false }]);
  });

  it("creates nothing, and says how to get what does", async () => {
    await expect(plugin.create(URN, { name: "tunestack" })).rejects.toThrow(
      /tunestack-network: only previewed.*plugin gcp .*npm start/s,
    );
  });
});
