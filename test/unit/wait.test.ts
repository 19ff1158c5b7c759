import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { waitForServices } from "../../scripts/lib/wait.ts";
import { type ContainerState, MISSING } from "../../scripts/lib/workloads.ts";

const HEALTHY = { health: "healthy", reachable: true };
const STARTING = { health: "starting", reachable: true };
const RESTARTING = { health: "restarting", reachable: false, restarts: 4 };

const LIMIT_MS = 3000;

let said = "";

beforeEach(() => {
  said = "";
  const take = (...lines: unknown[]) => {
    said += `${lines.join(" ")}\n`;
  };
  vi.spyOn(console, "error").mockImplementation(take);
  vi.spyOn(process.stderr, "write").mockImplementation((text) => {
    take(text);
    return true;
  });
});

afterEach(() => vi.restoreAllMocks());

/** Waits for services whose states come one after the other, the last one for good. @returns milliseconds. */
async function wait(
  courses: Readonly<Record<string, readonly Partial<ContainerState>[]>>,
  limitMs = LIMIT_MS,
): Promise<number> {
  const looks = new Map<string, number>();
  const workloads = {
    state: async (container: string) => {
      const course = courses[container] ?? [];
      const look = looks.get(container) ?? 0;
      looks.set(container, look + 1);
      return { ...MISSING, exists: true, ...course[Math.min(look, course.length - 1)] };
    },
    lastLines: async (container: string) => `the last words of ${container}\n`,
  };
  const services = Object.keys(courses).map((name) => ({ name, container: name }));
  const started = Date.now();
  await waitForServices(workloads, { services: services as never }, { pollMs: 20, limitMs });
  return Date.now() - started;
}

test("services are waited for until all are healthy", async () => {
  expect(await wait({ jupyter: [STARTING, STARTING, HEALTHY], tensorboard: [HEALTHY] })).toBeLessThan(LIMIT_MS);
  expect(said).toContain("2 healthy");
  expect(said).not.toContain("last words");
});

test("one that ends again and again is not waited for, and says why", async () => {
  expect(await wait({ jupyter: [HEALTHY], backup: [RESTARTING] })).toBeLessThan(LIMIT_MS);
  expect(said).toContain("not healthy: backup restarting");
  expect(said).toContain("backup: the last words of backup");
  expect(said).not.toContain("last words of jupyter");
});

test("the others are waited for all the same", async () => {
  expect(await wait({ jupyter: [STARTING, STARTING, STARTING, HEALTHY], backup: [RESTARTING] })).toBeGreaterThanOrEqual(
    60,
  );
  expect(said).toContain("not healthy: backup restarting");
});

test("one that does not come up is given up after a time", async () => {
  expect(await wait({ jupyter: [STARTING] }, 200)).toBeGreaterThanOrEqual(200);
  expect(said).toContain("jupyter: the last words of jupyter");
});
