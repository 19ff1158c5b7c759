import { createHash } from "node:crypto";

/** A line of apt sources: where packages come from. */
export interface AptSource {
  readonly uri: string;
  readonly suite: string;
  readonly components: readonly string[];
}

export const suite = "bookworm";
/** Raised when the way the image is made changes without a change of its inputs. */
const recipeRevision = 1;

function fromOneLine(text: string): readonly AptSource[] {
  return text.split("\n").flatMap((line) => {
    const words = line
      .replace(/#.*/, "")
      .replace(/\[[^\]]*\]/, " ")
      .trim()
      .split(/\s+/);
    const [kind, uri, name, ...components] = words;
    return kind === "deb" && uri !== undefined && name !== undefined ? [{ uri, suite: name, components }] : [];
  });
}

function fromDeb822(text: string): readonly AptSource[] {
  return text.split(/\n\s*\n/).flatMap((stanza) => {
    const fields = new Map<string, string>();
    let key = "";
    for (const line of stanza.split("\n")) {
      if (line.startsWith("#")) continue;
      const match = /^([A-Za-z-]+):\s*(.*)$/.exec(line);
      if (match?.[1] !== undefined) key = match[1].toLowerCase();
      fields.set(key, `${fields.get(key) ?? ""} ${match?.[2] ?? line}`.trim());
    }
    const words = (name: string) => (fields.get(name) ?? "").split(/\s+/).filter((word) => word !== "");
    if (!words("types").includes("deb") || words("enabled").includes("no")) return [];
    return words("uris").flatMap((uri) =>
      words("suites").map((name) => ({ uri, suite: name, components: words("components") })),
    );
  });
}

/**
 * The Debian sources among a machine's apt sources which fit the image: its mirror is then the image's mirror. Empty on
 * machines of another distribution or release, where the bootstrap's own default mirror is used.
 */
export function debianSources(
  files: readonly { readonly name: string; readonly text: string }[],
): readonly AptSource[] {
  return files
    .flatMap(({ name, text }) => (name.endsWith(".sources") ? fromDeb822(text) : fromOneLine(text)))
    .filter((one) => one.components.includes("main") && (one.suite === suite || one.suite.startsWith(`${suite}-`)))
    .filter((one) => !one.suite.endsWith("-backports"))
    .map((one) => ({ ...one, components: ["main"] }));
}

export function splitCertificates(bundle: string): readonly string[] {
  return bundle.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
}

/** The certificates that a machine trusts beyond Debian's set: those of a proxy that opens TLS, or of a lab. */
export function extraCertificates(trusted: string, packaged: string): readonly string[] {
  const bare = (pem: string) => pem.replace(/\s+/g, "");
  const known = new Set(splitCertificates(packaged).map(bare));
  const extra = new Map(splitCertificates(trusted).map((pem) => [bare(pem), pem]));
  for (const pem of known) extra.delete(pem);
  return [...extra.values()].sort();
}

export interface BaseImagePlan {
  readonly tag: string;
  readonly sources: readonly AptSource[];
  readonly certificates: readonly string[];
  /** `name=value` lines of apt's configuration, such as its proxy. */
  readonly aptOptions: readonly string[];
}

/** usr-is-merged stands in for usrmerge, which brings all of Perl to convert old file systems. */
const packages = ["ca-certificates", "python3", "usr-is-merged"] as const;
const leftOut = [
  "man/*",
  "info/*",
  "doc/*",
  "locale/*",
  "lintian/*",
  "groff/*",
  "doc-base/*",
  "bug/*",
  "pixmaps/*",
  "zoneinfo/right/*",
];

export function planBaseImage(inputs: Omit<BaseImagePlan, "tag">): BaseImagePlan {
  const recipe = JSON.stringify([recipeRevision, suite, packages, leftOut, process.arch, inputs]);
  return {
    ...inputs,
    tag: `tunestack/base:${suite}-${createHash("sha256").update(recipe).digest("hex").slice(0, 12)}`,
  };
}

const certificateFolder = "/usr/local/share/ca-certificates";

/** The arguments of mmdebstrap; `folder` holds the certificates, `target` is the archive to write. */
export function bootstrapArguments(plan: BaseImagePlan, folder: string, target: string): readonly string[] {
  const certificates = plan.certificates.map((_, index) => `"${folder}/tunestack-${index}.crt"`);
  return [
    "--variant=minbase",
    `--include=${packages.join(",")}`,
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    '--aptopt=Apt::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    ...plan.aptOptions.map((line) => `--aptopt=${line}`),
    ...leftOut.map((name) => `--dpkgopt=path-exclude=/usr/share/${name}`),
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    ...(certificates.length === 0
      ? []
      : [
          `--customize-hook=cp ${certificates.join(" ")} "$1${certificateFolder}/"`,
          '--customize-hook=chroot "$1" update-ca-certificates',
        ]),
    '--customize-hook=rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/cache/debconf/*-old "$1"/var/log/*.log "$1"/var/log/apt',
    "--format=tar",
    suite,
    target,
    ...plan.sources.map((one) => `deb ${one.uri} ${one.suite} ${one.components.join(" ")}`),
  ];
}

/** What the image says of itself. The variables make tools with certificates of their own trust the machine's. */
export function imageChanges(plan: BaseImagePlan): readonly string[] {
  const bundle = "/etc/ssl/certs/ca-certificates.crt";
  return [
    "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "ENV LANG=C.UTF-8",
    ...(plan.certificates.length === 0
      ? []
      : [`ENV SSL_CERT_FILE=${bundle}`, `ENV REQUESTS_CA_BUNDLE=${bundle}`, `ENV PIP_CERT=${bundle}`]),
    'CMD ["/bin/bash"]',
    "LABEL org.opencontainers.image.title=tunestack-base",
    `LABEL org.opencontainers.image.description=Debian_${suite}_with_Python_made_without_a_registry`,
  ];
}
