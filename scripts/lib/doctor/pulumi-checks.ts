import { createDecipheriv, pbkdf2Sync } from "node:crypto";
import { type Check, fail, ok, warn } from "./check.ts";
import { type Here, isStale, type Lock } from "./locks.ts";

export interface ProgramFacts {
  /** What it is. Example: `plugin docker`. */
  readonly title: string;
  readonly path: string;
  readonly there: boolean;
  /** Made here, since its download host did not answer; else the official one. */
  readonly madeHere: boolean;
}

export function programCheck({ title, path, there, madeHere }: ProgramFacts): Check {
  if (!there) return fail(title, `there is none at ${path}`, "npm start downloads or makes it", "set-up");
  return ok(title, madeHere ? "made here (offline/)" : "official");
}

export interface PassphraseFacts {
  /** Where it is taken from. Example: `.tunestack/passphrase`. */
  readonly source: string;
  /** Undefined where there is none. */
  readonly passphrase: string | undefined;
  /** The `encryptionsalt` of the stack; undefined for one that was never opened. */
  readonly salt: string | undefined;
}

export function passphraseCheck({ source, passphrase, salt }: PassphraseFacts): Check {
  const name = "passphrase";
  if (passphrase === undefined) {
    return salt === undefined
      ? warn(name, `${source} is not made yet`, "npm start makes it", "set-up")
      : fail(name, `${source} is missing, and the stack's secrets need it`, `put back ${source} from your copy`);
  }
  if (salt === undefined) return ok(name, `${source}; the stack is new`);
  return passphraseFits(passphrase, salt)
    ? ok(name, `${source} fits`)
    : fail(
        name,
        `${source} does not fit the stack's secrets`,
        `put back the right one in ${source}; no other opens what it encrypted`,
      );
}

/** Rounds of PBKDF2 that Pulumi derives a stack's key by. Source: pulumi/sdk, go/common/resource/config/crypt.go. */
const ROUNDS = 1_000_000;
const TAG_BYTES = 16;

/**
 * Whether a passphrase opens what Pulumi encrypted with the stack's: its salt comes with the word `pulumi`, encrypted.
 * @param encryptionSalt `v1:SALT:v1:NONCE:TEXT`, each in base64.
 */
export function passphraseFits(passphrase: string, encryptionSalt: string): boolean {
  const [, salt = "", , nonce = "", text = ""] = encryptionSalt.split(":");
  const key = pbkdf2Sync(passphrase, Buffer.from(salt, "base64"), ROUNDS, 32, "sha256");
  const sealed = Buffer.from(text, "base64");
  if (sealed.length < TAG_BYTES) return false;
  const decipher = createDecipheriv("aes-256-gcm", key, Buffer.from(nonce, "base64"));
  decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
  try {
    return decipher.update(sealed.subarray(0, -TAG_BYTES), undefined, "utf8") + decipher.final("utf8") === "pulumi";
  } catch {
    return false;
  }
}

/** @param locks undefined where the state is in a backend elsewhere. */
export function lockCheck(stack: string, locks: readonly Lock[] | undefined, here: Here): Check {
  const name = "lock";
  if (locks === undefined) return ok(name, "the state is in a backend of yours (PULUMI_BACKEND_URL)");
  if (locks.length === 0) return ok(name, "none");
  const held = locks.find((lock) => !isStale(lock, here));
  const told = (lock: Lock) => `process ${lock.pid} of ${lock.username}@${lock.hostname} since ${lock.timestamp}`;
  if (held !== undefined) {
    return warn(
      name,
      `${told(held)} works on the stack`,
      `wait for it; if it is no more: npx pulumi cancel --yes --stack ${stack}`,
    );
  }
  return fail(
    name,
    `left by a command that was killed: ${locks.map(told).join(", ")}`,
    `npm run doctor -- --fix, or npx pulumi cancel --yes --stack ${stack}`,
    "lock",
  );
}

/** @param pending operations that an interrupted `up` left in the state; undefined where the state cannot be read. */
export function pendingCheck(pending: readonly string[] | undefined): Check {
  const name = "state";
  if (pending === undefined) return ok(name, "none yet");
  return pending.length === 0
    ? ok(name, "no interrupted operation")
    : fail(name, `interrupted: ${pending.join(", ")}`, "npm run doctor -- --fix, or the next npm start", "state");
}
