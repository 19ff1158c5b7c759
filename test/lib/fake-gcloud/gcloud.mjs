#!/usr/bin/env node
// Stands in for Google's command line in the tests: notes what it is asked, answers as it was told to, and forwards
// sockets and ports as `ssh -L` would, with the "VM" on this machine.
import { appendFileSync, readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";

const folder = process.env.FAKE_GCLOUD;
const args = process.argv.slice(2);
appendFileSync(join(folder, "calls.jsonl"), `${JSON.stringify(args)}\n`);

/** @type {{ answers: { when: string, stdout?: string, stderr?: string, exitCode?: number, times?: number }[], forwards: Record<string, string | number> }} */
const scenario = JSON.parse(readFileSync(join(folder, "scenario.json"), "utf8"));
const typed = args.join(" ");
const before = readFileSync(join(folder, "calls.jsonl"), "utf8").trimEnd().split("\n").slice(0, -1);

const matching = scenario.answers.filter(({ when }) => typed.includes(when));
const answer = matching.find(({ when, times }) => {
  const seen = before.filter((line) => JSON.parse(line).join(" ").includes(when)).length;
  return times === undefined || seen < times;
});
if (answer !== undefined) {
  process.stdout.write(answer.stdout ?? "");
  process.stderr.write(answer.stderr ?? "");
  process.exitCode = answer.exitCode ?? 0;
} else if (args[0] === "compute" && args[1] === "ssh") {
  forward(args[args.lastIndexOf("-L") + 1]);
} else {
  process.stderr.write(`the test says nothing of: gcloud ${typed}\n`);
  process.exitCode = 1;
}

/** @param {string} way `LOCAL_SOCKET:REMOTE_SOCKET`, or `127.0.0.1:LOCAL:127.0.0.1:REMOTE` */
function forward(way) {
  const parts = way.split(":");
  const [local, remote] = parts.length === 2 ? parts : [Number(parts[1]), Number(parts[3])];
  const target = scenario.forwards[String(remote)];
  const server = createServer((socket) => {
    const there = typeof target === "number" ? connect(target, "127.0.0.1") : connect(target);
    socket.pipe(there).pipe(socket);
    for (const [one, other] of [
      [socket, there],
      [there, socket],
    ])
      one.on("error", () => other.destroy());
  });
  const listening = () => process.stdout.write("tunestack-tunnel-open\n");
  if (typeof local === "number") server.listen(local, "127.0.0.1", listening);
  else server.listen(local, listening);
  // `cat` on the VM ends with its input, and the connection with it.
  process.stdin.resume().on("end", () => process.exit(0));
}
