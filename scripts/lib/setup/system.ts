import { existsSync, readFileSync } from "node:fs";

/** What of the machine decides how set-up may install things. */
export interface System {
  readonly root: boolean;
  /** `debian`, `ubuntu`, or another distribution's id from /etc/os-release. */
  readonly distribution: string;
  /** systemd is what started the machine, so that services are started through it. */
  readonly systemd: boolean;
}

export function readSystem(): System {
  const release = existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "";
  return {
    root: process.getuid?.() === 0,
    distribution: distributionOf(release),
    systemd: existsSync("/run/systemd/system"),
  };
}

/** The distribution's id; a derivative that says it is like Debian or Ubuntu counts as that. */
export function distributionOf(osRelease: string): string {
  const field = (name: string) => new RegExp(`^${name}=["']?([^"'\n]*)`, "m").exec(osRelease)?.[1] ?? "";
  const id = field("ID");
  if (id === "debian" || id === "ubuntu") return id;
  const like = field("ID_LIKE").split(" ");
  return like.includes("ubuntu") ? "ubuntu" : like.includes("debian") ? "debian" : id;
}

/** Whether set-up may install packages by apt. */
export function mayInstall({ root, distribution }: System): boolean {
  return root && (distribution === "debian" || distribution === "ubuntu");
}
