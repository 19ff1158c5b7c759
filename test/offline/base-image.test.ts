import { describe, expect, it } from "vitest";
import {
  bootstrapArguments,
  debianSources,
  extraCertificates,
  imageChanges,
  planBaseImage,
} from "../../offline/base-image-plan.ts";

const certificate = (body: string) => `-----BEGIN CERTIFICATE-----\n${body}\n-----END CERTIFICATE-----\n`;

describe("the Debian mirror of the base image", () => {
  it("is the machine's own, from both forms of sources", () => {
    const oneLine = `# comment
deb [arch=amd64 signed-by=/k.gpg] http://mirror.lab/debian bookworm main contrib
deb-src http://mirror.lab/debian bookworm main
deb http://docker.lab/debian bookworm stable
deb http://mirror.lab/debian bookworm-backports main
deb http://mirror.lab/debian trixie main`;
    const stanzas = `Types: deb
URIs: http://mirror.lab/debian-security
Suites: bookworm-security
  bookworm-updates
Components: main

Types: deb
Enabled: no
URIs: http://off.lab/debian
Suites: bookworm
Components: main
`;
    const files = [
      { name: "sources.list", text: oneLine },
      { name: "debian.sources", text: stanzas },
    ];
    expect(debianSources(files)).toEqual([
      { uri: "http://mirror.lab/debian", suite: "bookworm", components: ["main"] },
      { uri: "http://mirror.lab/debian-security", suite: "bookworm-security", components: ["main"] },
      { uri: "http://mirror.lab/debian-security", suite: "bookworm-updates", components: ["main"] },
    ]);
  });

  it("is left to the bootstrap's default on another distribution", () => {
    expect(debianSources([{ name: "sources.list", text: "deb http://archive.lab/ubuntu noble main" }])).toEqual([]);
  });
});

describe("the certificates of the base image", () => {
  it("are those that the machine trusts beyond Debian's, each once, however they are wrapped", () => {
    const trusted = certificate("AAAA\nBBBB") + certificate("LABLAB") + certificate("LAB\nLAB") + certificate("CCCC");
    const packaged = certificate("AAAABBBB") + certificate("CCCC");
    const extra = extraCertificates(trusted, packaged);
    expect(extra).toHaveLength(1);
    expect(extra[0]?.replace(/\s+/g, "")).toBe(certificate("LABLAB").replace(/\s+/g, ""));
    expect(extraCertificates(packaged, packaged)).toEqual([]);
  });
});

describe("the recipe of the base image", () => {
  const inputs = {
    sources: [{ uri: "http://m/debian", suite: "bookworm", components: ["main"] }],
    certificates: [],
    aptOptions: [],
  };

  it("is named by everything that it is made from", () => {
    const { tag } = planBaseImage(inputs);
    expect(tag).toMatch(/^tunestack\/base:bookworm-[0-9a-f]{12}$/);
    expect(planBaseImage(inputs).tag).toBe(tag);
    expect(planBaseImage({ ...inputs, certificates: [certificate("X")] }).tag).not.toBe(tag);
    expect(planBaseImage({ ...inputs, sources: [] }).tag).not.toBe(tag);
    expect(planBaseImage({ ...inputs, aptOptions: ['Acquire::http::Proxy "http://p"'] }).tag).not.toBe(tag);
  });

  it("passes mirror, proxy and certificates to the bootstrap, and sets the image to trust them", () => {
    const plan = planBaseImage({
      ...inputs,
      certificates: [certificate("X")],
      aptOptions: ['Acquire::http::Proxy "http://p"'],
    });
    const words = bootstrapArguments(plan, "/aside", "/aside/base.tar");
    expect(words.slice(-3)).toEqual(["bookworm", "/aside/base.tar", "deb http://m/debian bookworm main"]);
    expect(words).toContain('--aptopt=Acquire::http::Proxy "http://p"');
    expect(words).toContain('--customize-hook=cp "/aside/tunestack-0.crt" "$1/usr/local/share/ca-certificates/"');
    expect(imageChanges(plan).join("\n")).toContain("ENV SSL_CERT_FILE=");
    expect(imageChanges(planBaseImage(inputs)).join("\n")).not.toContain("SSL_CERT_FILE");
  });
});
