import { describe, expect, it } from "vitest";
import { addedBytes, dockerSize, type LayerStep, partsOf, togetherBytes } from "../../scripts/lib/image-layers.ts";

const step = (createdBy: string, bytes: number, created = 1): LayerStep => ({ createdBy, created, bytes });

const BASE = [step("", 100), step("RUN useradd", 10), step("LABEL org.opencontainers.image.title=tunestack", 0)];
const PACKAGES = [...BASE, step("RUN uv pip install", 5000)];
const TRAINING = [
  ...PACKAGES,
  step("COPY bin /opt/tunestack/bin # buildkit", 1),
  step("COPY src /opt/tunestack/src # buildkit", 20),
];
const DEV = [...PACKAGES, step("RUN uv pip install jupyter", 300), step("COPY src /opt/tunestack/src # buildkit", 20)];

describe("the layers of an image", () => {
  it("are base, packages and code", () => {
    expect(partsOf(TRAINING)).toEqual({ base: 110, packages: 5000, code: 21 });
    expect(partsOf(DEV)).toEqual({ base: 110, packages: 5300, code: 20 });
  });

  it("of an image that is not ours are packages", () => {
    expect(partsOf([step("RUN make", 7)])).toEqual({ base: 0, packages: 7, code: 0 });
  });

  it("count once where images share them", () => {
    expect(togetherBytes([TRAINING, DEV])).toBe(5131 + 320);
    expect(togetherBytes([TRAINING, TRAINING])).toBe(5131);
  });

  it("that an edit adds are those after the first that differs", () => {
    const edited = [...TRAINING.slice(0, -1), step("COPY src /opt/tunestack/src # buildkit", 21, 2)];
    expect(addedBytes(TRAINING, edited)).toBe(21);
    expect(addedBytes(TRAINING, TRAINING)).toBe(0);
    expect(
      addedBytes(
        TRAINING,
        TRAINING.map((one) => ({ ...one, created: 9 })),
      ),
    ).toBe(5131);
  });
});

describe("a size as docker tells it", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [262_600, "263 kB"],
    [118_000_000, "118 MB"],
    [5_081_000_000, "5.08 GB"],
  ])("%i", (bytes, text) => {
    expect(dockerSize(bytes)).toBe(text);
  });
});
