import { setTimeout as sleep } from "node:timers/promises";

const LIMIT_MS = 180_000;

/**
 * Asks again and again until there is an answer.
 * @param look gives undefined as long as there is none.
 * @param otherwise told where there is none in time; it may look at the cluster to say why.
 */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined>,
  otherwise: () => Promise<string> = async () => "",
): Promise<T> {
  const deadline = Date.now() + LIMIT_MS;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${LIMIT_MS / 1000} s\n${await otherwise()}`);
    await sleep(200);
  }
}
