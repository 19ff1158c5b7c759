import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DEFAULTS, TARGET_DEFAULTS } from "../../stacks/settings/defaults.ts";
import type { RawSettings } from "../../stacks/settings/layers.ts";
import { formatProblems, type Problem, SettingsError, showValue } from "../../stacks/settings/problems.ts";
import { resolveSettings } from "../../stacks/settings/resolve.ts";
import { problemsOf } from "../lib/inputs.ts";

const SHARED = { source: "Pulumi.dev.yaml", values: { training: { preset: "rehearsal" } } };

function resolve(values: RawSettings) {
  return resolveSettings([SHARED, { source: "mine", values }]);
}

const SIZE_REMEDY = "write a number with its unit, such as 8GiB or 512MiB";
const DURATION_REMEDY = "write a number with its unit, such as 30m or 1h";
const SERVICES = "jupyter, tensorboard, wandb-local, gpu-monitor, training-backup, experiment-runner";

/** What a person writes, and the one problem that it makes. */
const MISTAKES: readonly (readonly [string, RawSettings, Problem])[] = [
  [
    "an unknown key with a likely meaning",
    { services: { jupyter: { prot: 8889 } } },
    {
      path: "services.jupyter.prot (mine)",
      value: "8889",
      reason: "is not a setting",
      remedy: "did you mean port? Otherwise use one of: enabled, memory, port, colab, gpu",
    },
  ],
  [
    "an unknown service",
    { services: { jupiter: { port: 1 } } },
    {
      path: "services.jupiter (mine)",
      value: '{"port":1}',
      reason: "is not a setting",
      remedy: `did you mean jupyter? Otherwise use one of: ${SERVICES}`,
    },
  ],
  [
    "an unknown key like nothing known",
    { services: { zeppelin: true } },
    {
      path: "services.zeppelin (mine)",
      value: "true",
      reason: "is not a setting",
      remedy: `use one of: ${SERVICES}`,
    },
  ],
  [
    "an unknown key at the top",
    { acelerator: "cpu" },
    {
      path: "acelerator (mine)",
      value: '"cpu"',
      reason: "is not a setting",
      remedy:
        "did you mean accelerator? Otherwise use one of: target, accelerator, profiles, image, training, services, backup, experiments, docker",
    },
  ],
  [
    "text for a number",
    { services: { jupyter: { port: "8889" } } },
    {
      path: "services.jupyter.port (mine)",
      value: '"8889"',
      reason: "is text and not a number",
      remedy: "write a number",
    },
  ],
  [
    "a fraction for a whole number",
    { services: { jupyter: { port: 8888.5 } } },
    {
      path: "services.jupyter.port (mine)",
      value: "8888.5",
      reason: "is a number and not a whole number",
      remedy: "write a whole number",
    },
  ],
  [
    "text for whether Jupyter sees a GPU",
    { services: { jupyter: { gpu: "no" } } },
    {
      path: "services.jupyter.gpu (mine)",
      value: '"no"',
      reason: "is text and not true or false",
      remedy: "write true or false",
    },
  ],
  [
    "text for true or false",
    { services: { jupyter: { enabled: "yes" } } },
    {
      path: "services.jupyter.enabled (mine)",
      value: '"yes"',
      reason: "is text and not true or false",
      remedy: "write true or false",
    },
  ],
  [
    "text for a list",
    { profiles: "training" },
    { path: "profiles (mine)", value: '"training"', reason: "is text and not a list", remedy: "write a list" },
  ],
  [
    "a number for a map",
    { training: 5 },
    { path: "training (mine)", value: "5", reason: "is a number and not a map", remedy: "write a map" },
  ],
  [
    "a number for text",
    { image: { cudaVersion: 12.6 } },
    {
      path: "image.cudaVersion (mine)",
      value: "12.6",
      reason: "is a number and not text",
      remedy: "write it in quotes",
    },
  ],
  [
    "a map that was taken away",
    { services: { jupyter: null } },
    { path: "services.jupyter", value: undefined, reason: "is missing", remedy: "set it to a map" },
  ],
  [
    "a port that there is none of",
    { services: { jupyter: { port: 70000 } } },
    {
      path: "services.jupyter.port (mine)",
      value: "70000",
      reason: "is more than 65535",
      remedy: "choose at most 65535",
    },
  ],
  [
    "port 0",
    { services: { jupyter: { port: 0 } } },
    { path: "services.jupyter.port (mine)", value: "0", reason: "is less than 1", remedy: "choose at least 1" },
  ],
  [
    "a size without a unit",
    { services: { jupyter: { memory: "8" } } },
    { path: "services.jupyter.memory (mine)", value: '"8"', reason: "is no size", remedy: SIZE_REMEDY },
  ],
  [
    "a bare number as a size",
    { services: { jupyter: { memory: 8 } } },
    { path: "services.jupyter.memory (mine)", value: "8", reason: "is no size", remedy: SIZE_REMEDY },
  ],
  [
    "a size below what an engine takes, which would be rounded to no limit",
    { services: { jupyter: { memory: "100KB" } } },
    {
      path: "services.jupyter.memory (mine)",
      value: '"100KB"',
      reason: "is less than 6MiB, the least that an engine takes",
      remedy: SIZE_REMEDY,
    },
  ],
  [
    "a duration without a unit",
    { backup: { interval: 30 } },
    { path: "backup.interval (mine)", value: "30", reason: "is no duration", remedy: DURATION_REMEDY },
  ],
  [
    "no time at all",
    { backup: { interval: "0s" } },
    { path: "backup.interval (mine)", value: '"0s"', reason: "is no duration", remedy: DURATION_REMEDY },
  ],
  [
    "an unknown preset",
    { training: { preset: "gemma-2" } },
    {
      path: "training.preset (mine)",
      value: '"gemma-2"',
      reason: "is not one of the values allowed",
      remedy: "did you mean gemma-2b? Otherwise use one of: rehearsal, gemma-2b, gemma-9b",
    },
  ],
  [
    "an unknown profile",
    { profiles: ["dev", "trainig"] },
    {
      path: "profiles.1 (mine)",
      value: '"trainig"',
      reason: "is not one of the values allowed",
      remedy: "did you mean training? Otherwise use one of: training, dev, monitor, experiments",
    },
  ],
  [
    "the profile experiments without a repository",
    { profiles: ["experiments"] },
    {
      path: "experiments.repository",
      value: undefined,
      reason: "is missing: the profile experiments takes experiments from a repository",
      remedy: "npm run experiment -- serve sets it to that of your clone; or leave the profile out",
    },
  ],
  [
    "a token in the repository's address, which is not shown",
    { experiments: { repository: "https://me:t0ken@git.example/a/b.git" } },
    {
      path: "experiments.repository (mine)",
      value: undefined,
      reason: "holds a password or token, which would show in logs",
      remedy: "take it out of the URL; GIT_TOKEN=… npm run experiment -- serve keeps it as the secret git-token",
    },
  ],
  [
    "a repository that no container reaches",
    { experiments: { repository: "/srv/work.git" } },
    {
      path: "experiments.repository (mine)",
      value: '"/srv/work.git"',
      reason: "is no URL of a git repository",
      remedy: "write it as https://host/owner/name.git or git@host:owner/name.git",
    },
  ],
  [
    "a branch that git refuses",
    { experiments: { branch: "a..b" } },
    {
      path: "experiments.branch (mine)",
      value: '"a..b"',
      reason: "is no branch name",
      remedy: "see the keys and examples in Pulumi.yaml",
    },
  ],
  [
    "an unknown target",
    { target: "dcoker" },
    {
      path: "target (mine)",
      value: '"dcoker"',
      reason: "is not one of the targets",
      remedy: "set it to one of: docker, gcp-vm, kubernetes, gke",
    },
  ],
  [
    "a model of one's own without data",
    { training: { preset: null, model: "me/mine" } },
    {
      path: "training.data",
      value: undefined,
      reason: "is missing: a model of your own needs data of your own",
      remedy: "set training.data to a JSONL, JSON, CSV or Parquet file, or to a folder of them",
    },
  ],
  [
    "an empty model",
    { training: { model: "" } },
    {
      path: "training.model (mine)",
      value: '""',
      reason: "is empty",
      remedy: "give it a value, or take the key away",
    },
  ],
  [
    "a run name with capitals and a space",
    { training: { run: "My Run" } },
    {
      path: "training.run (mine)",
      value: '"My Run"',
      reason: "is no run name: lower-case letters, digits and hyphens, at most 53, no hyphen at either end",
      remedy: "see the keys and examples in Pulumi.yaml",
    },
  ],
  [
    "a list as a training setting",
    { training: { set: { max_steps: [1] } } },
    {
      path: "training.set.max_steps (mine)",
      value: "[1]",
      reason: "is a list",
      remedy: "write a number, a text, true or false",
    },
  ],
  [
    "a training setting in capitals",
    { training: { set: { MAX_STEPS: 1 } } },
    {
      path: "training.set.MAX_STEPS (mine)",
      value: "1",
      reason: "is not a setting",
      remedy: "did you mean max_steps?",
    },
  ],
  [
    "a training setting of too much",
    { training: { set: { lora_r: "8192" } } },
    {
      path: "training.set.lora_r (mine)",
      value: '"8192"',
      reason: "is more than 4096",
      remedy: "give a whole number from 1 to 4096",
    },
  ],
  [
    "a mirror that is no URL",
    { image: { pypiMirror: "mirror" } },
    {
      path: "image.pypiMirror (mine)",
      value: '"mirror"',
      reason: "is no URL",
      remedy: "write it in full, such as https://mirror.example/simple",
    },
  ],
];

describe("resolveSettings", () => {
  test("a preset alone is enough; sizes come out in bytes and times in seconds", () => {
    const { settings, sources } = resolveSettings([SHARED]);
    expect(settings.training).toEqual({
      run: "first-run",
      preset: "rehearsal",
      set: {},
      sharedMemory: 8 * 2 ** 30,
      stopGrace: 120,
      replaceRunning: false,
    });
    expect(settings.services["gpu-monitor"]).toEqual({
      enabled: true,
      port: 9400,
      memory: 512 * 2 ** 20,
      interval: 5,
    });
    expect(sources.get("training.preset")).toBe("Pulumi.dev.yaml");
    expect(sources.get("services.jupyter.port")).toBe("default");
  });

  test.each(MISTAKES)("%s", (_name, values, problem) => {
    expect(problemsOf(() => resolve(values))).toEqual([problem]);
  });

  test("all problems are told at once, those of a model without data too", () => {
    const values = {
      profiles: 3,
      training: { preset: null, model: "me/mine", stopGrace: "5" },
      services: { jupyter: { port: "8889" }, zeppelin: true },
    };
    expect(problemsOf(() => resolve(values)).map(({ path }) => path)).toEqual([
      "profiles (mine)",
      "training.stopGrace (mine)",
      "services.jupyter.port (mine)",
      "services.zeppelin (mine)",
      "training.data",
    ]);
  });

  test("neither a preset nor a model", () => {
    const problems = problemsOf(() => resolve({ training: { preset: null, data: "notes.jsonl" } }));
    expect(problems).toEqual([
      {
        path: "training",
        value: showValue({ ...(DEFAULTS.training as object), data: "notes.jsonl" }),
        reason: "names neither a preset nor a model",
        remedy: "set training.preset (rehearsal, gemma-2b, gemma-9b) or training.model",
      },
    ]);
  });

  test("null takes a shared value away, so that a personal run can be of another kind", () => {
    const { settings } = resolve({ training: { preset: null, model: "me/mine", data: "notes.jsonl" } });
    expect(settings.training.preset).toBeUndefined();
    expect(settings.training.model).toBe("me/mine");
  });

  test("every key at every depth that the schema does not have is rejected", () => {
    const known = new Set(["target", "accelerator", "profiles", "image", "training", "services", "backup", "docker"]);
    const name = fc.stringMatching(/^[a-zA-Z]{1,12}$/).filter((key) => !known.has(key));
    fc.assert(
      fc.property(name, fc.constantFrom("image", "backup", "docker", "services"), (key, parent) => {
        const inside = new Set(Object.keys({ ...DEFAULTS, ...TARGET_DEFAULTS.docker }[parent] as object));
        const optional = ["pypiMirror", "aptMirror", "caCertificate", "repository", "host"];
        fc.pre(!inside.has(key) && !optional.includes(key));
        expect(problemsOf(() => resolve({ [key]: 1 }))[0]?.reason).toBe("is not a setting");
        expect(problemsOf(() => resolve({ [parent]: { [key]: 1 } }))[0]?.reason).toBe("is not a setting");
      }),
    );
  });

  test("whatever a person writes, the answer is settings or problems with path, reason and remedy", () => {
    const key = fc.constantFrom(
      ...["target", "profiles", "image", "training", "services", "docker", "jupyter", "port", "memory", "set", "base"],
      ...["preset", "model", "prefix", "keep", "backup", "interval", "last"],
    );
    const { written } = fc.letrec<{ written: RawSettings; value: unknown }>((tie) => ({
      written: fc.dictionary(key, tie("value"), { maxKeys: 4 }),
      value: fc.oneof({ maxDepth: 3 }, fc.jsonValue({ maxDepth: 1 }), tie("written")),
    }));
    fc.assert(
      fc.property(written, (values) => {
        try {
          resolve(values);
        } catch (error) {
          if (!(error instanceof SettingsError)) throw error;
          for (const { path, reason, remedy } of error.problems) {
            expect(path).not.toBe("");
            expect(reason).not.toBe("");
            expect(remedy).not.toBe("");
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe("formatProblems", () => {
  test("one block for each problem, in the order found", () => {
    const problems = [
      { path: "a.b", value: "1", reason: "is wrong", remedy: "mend it" },
      { path: "c", reason: "is missing", remedy: "add it" },
    ];
    expect(formatProblems(problems)).toBe(
      "2 problems in the settings:\n  a.b = 1\n    is wrong\n    → mend it\n  c\n    is missing\n    → add it",
    );
    expect(formatProblems(problems.slice(0, 1), "command line")).toMatch(/^1 problem in the command line:\n/);
  });

  test("a long value is cut", () => {
    expect(showValue("x".repeat(200))).toBe(`"${"x".repeat(76)}…`);
    expect(showValue(undefined)).toBeUndefined();
  });
});
