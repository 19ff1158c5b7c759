const patienceMs = 30_000;
const pauseMs = 500;

/** Tries to remove a thing that others may still be letting go of, for as long as the official provider does. */
export async function untilRemoved(what: string, remove: () => Promise<boolean>): Promise<void> {
  const end = Date.now() + patienceMs;
  while (!(await remove())) {
    if (Date.now() >= end) {
      throw new Error(
        `timeout while waiting for state to become 'removed' (${what} is still in use after ${patienceMs / 1000}s)`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}
