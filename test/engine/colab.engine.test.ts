import { readFileSync } from "node:fs";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { colabAddress } from "../../scripts/lib/notebooks/local.ts";
import { secretFile } from "../../scripts/lib/setup/secrets.ts";
import { up } from "../../scripts/lib/train.ts";
import { waitForServices } from "../../scripts/lib/wait.ts";
import type { StackOutputs } from "../../stacks/outputs.ts";
import { freePorts } from "../lib/ports.ts";
import { openBrowser } from "./browser.ts";
import { ENGINE, freshStack, type TestStack } from "./test-stack.ts";

const COLAB = "https://colab.research.google.com";

let stack: TestStack;
let outputs: StackOutputs;
let token: string;
let browser: Awaited<ReturnType<typeof openBrowser>>;

beforeAll(async () => {
  const [port] = await freePorts(1);
  const off = { enabled: false };
  const services = { jupyter: { port, colab: true }, tensorboard: off, "wandb-local": off };
  stack = await freshStack("test-colab", { profiles: ["dev"], services });
  outputs = await up(stack.name);
  await waitForServices(ENGINE, outputs);
  token = readFileSync(secretFile(stack.name, "jupyter-token"), "utf8").trim();
  browser = await openBrowser();
});

afterAll(async () => {
  if (browser !== undefined && "close" in browser) await browser.close();
  await stack?.remove();
});

interface Attempt {
  /** Status of the request that starts a kernel; what the browser says where it keeps the answer from the page. */
  readonly start: number | string;
  /** What the kernel printed; `refused` where the connection was. */
  readonly printed: string;
}

/** What a page of `origin` gets from Jupyter: it starts a kernel and has it compute. */
async function fromPage(opened: Browser, origin: string, address: string, kernel: string): Promise<Attempt> {
  const context = await opened.newContext();
  try {
    // A person is asked whether the page may reach this machine; here the answer is yes, so that Jupyter has to refuse.
    await context.grantPermissions(["local-network-access"], { origin });
    const page = await context.newPage();
    await page.route(`${origin}/**`, (route) =>
      route.fulfill({ contentType: "text/html", body: "<title>page</title>" }),
    );
    await page.goto(`${origin}/`);
    return await page.evaluate(attempt, { address, kernel });
  } finally {
    await context.close();
  }
}

/** Runs in the page. */
async function attempt({ address, kernel }: { address: string; kernel: string }): Promise<Attempt> {
  const url = new URL(address);
  const query = url.search;
  const start = await fetch(`${url.origin}/api/kernels${query}`, {
    method: "POST",
    credentials: "include",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ name: "python3" }),
  }).then(
    ({ status }) => status,
    (error: unknown) => String(error),
  );
  const printed = await new Promise<string>((resolve) => {
    const socket = new WebSocket(`ws://${url.host}/api/kernels/${kernel}/channels${query}`);
    socket.onerror = () => resolve("refused");
    socket.onopen = () => {
      const header = { msg_id: "1", username: "", session: "s", msg_type: "execute_request", version: "5.3", date: "" };
      const content = {
        code: "print(6 * 7)",
        silent: false,
        store_history: false,
        user_expressions: {},
        allow_stdin: false,
      };
      socket.send(JSON.stringify({ header, parent_header: {}, metadata: {}, content, channel: "shell", buffers: [] }));
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(String(data)) as { msg_type: string; content: { text?: string } };
      if (message.msg_type === "stream") resolve(message.content.text ?? "");
    };
  });
  return { start, printed };
}

/** A kernel that is there, so that a connection to it is refused for who asks and not for what is asked. */
async function startKernel(): Promise<string> {
  const url = new URL(colabAddress(outputs, token));
  const response = await fetch(`${url.origin}/api/kernels`, {
    method: "POST",
    headers: { Authorization: `token ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify({ name: "python3" }),
  });
  return ((await response.json()) as { id: string }).id;
}

describe("Jupyter as Colab's local session", () => {
  test("its address is by name and with the token, on the port that is set", () => {
    expect(colabAddress(outputs, token)).toMatch(/^http:\/\/localhost:\d+\/\?token=[\w-]{20,}$/);
  });

  test("a page of Colab with the address starts a kernel and computes", async (context) => {
    if ("missing" in browser) return context.skip(browser.missing);
    const got = await fromPage(browser, COLAB, colabAddress(outputs, token), await startKernel());
    expect(got).toEqual({ start: 201, printed: "42\n" });
  });

  test.for([
    ["another page with the right token", "https://elsewhere.example", (): string => token],
    ["a page of Colab with a wrong token", COLAB, (): string => "wrong"],
    ["a page that looks like Colab's", "https://colab.research.google.com.elsewhere.example", (): string => token],
  ] as const)("%s gets nothing", async ([_title, origin, tokenOf], context): Promise<void> => {
    if ("missing" in browser) return context.skip(browser.missing);
    const got = await fromPage(browser, origin, colabAddress(outputs, tokenOf()), await startKernel());
    expect(got).toEqual({ start: "TypeError: Failed to fetch", printed: "refused" });
  });

  test("no other port is tried, and the container's log shows no token", async () => {
    const said = await ENGINE.lastLines(`${stack.prefix}agent-jupyter`, 200);
    expect(said).toMatch(/http:\/\/127\.0\.0\.1:8888\/lab/);
    expect(said).not.toContain(token);
  });
});
