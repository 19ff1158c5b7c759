import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { PROJECT_DIR } from "../../scripts/lib/project.ts";

/** Runs a script with what loads libraries late, and gives the JSON that it prints. */
function run(script: string): unknown {
  const lazy = join(PROJECT_DIR, "scripts", "pulumi", "lazy-libraries.cjs");
  const loaded = "const loaded = (name) => Object.keys(require.cache).some((file) => file.includes(name));";
  const args = ["--require", lazy, "--eval", `${loaded}\n${script}`];
  return JSON.parse(
    execFileSync(process.execPath, args, { cwd: PROJECT_DIR, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }),
  );
}

test("Pulumi's SDK comes without the compiler, which is there when it is used", () => {
  const answer = run(`
    require("@pulumi/pulumi");
    const before = loaded("/node_modules/typescript/");
    require("@pulumi/pulumi").runtime.serializeFunction(() => 1).then(({ text }) => {
      console.log(JSON.stringify({ before, after: loaded("/node_modules/typescript/"), serialized: text.includes("=> 1") }));
    });
  `);
  expect(answer).toEqual({ before: false, after: true, serialized: true });
});

test("a client of the engine comes without SSH, which is there when an engine is reached by it", () => {
  const answer = run(`
    const Docker = require("dockerode");
    const before = ["/ssh2/", "/protobufjs/", "/@grpc/"].filter(loaded);
    new Docker({ protocol: "ssh", host: "127.0.0.1", port: 1, username: "me" }).ping().catch((error) => {
      console.log(JSON.stringify({ before, after: loaded("/node_modules/ssh2/"), code: error.code }));
    });
  `);
  expect(answer).toEqual({ before: [], after: true, code: "ECONNREFUSED" });
});
