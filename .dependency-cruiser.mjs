// The import law: settings → plan → image, targets, k8s → index.ts. Tested in test/laws/import-law.test.ts.

const PULUMI = "(^|/)@pulumi/";

/** @type {import("dependency-cruiser").IConfiguration} */
export default {
  forbidden: [
    {
      name: "no-cycles",
      comment: "modules that need each other are one module",
      severity: "error",
      from: {},
      to: { circular: true },
    },
    {
      name: "resolvable",
      comment: "an import that leads nowhere",
      severity: "error",
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: "settings-first",
      comment: "settings are read before anything else is known",
      severity: "error",
      from: { path: "^stacks/settings/" },
      to: { path: "^(stacks/(?!settings/)|k8s/|policy/|index\\.ts)" },
    },
    {
      name: "plan-before-targets",
      comment: "a plan is the same whatever the target",
      severity: "error",
      from: { path: "^stacks/plan/" },
      to: { path: "^(stacks/(?!(settings|plan)/)|k8s/|policy/|index\\.ts)" },
    },
    {
      name: "plain-data",
      comment: "settings and plan are plain data, without Pulumi",
      severity: "error",
      from: { path: "^stacks/(settings|plan)/" },
      to: { path: PULUMI },
    },
    {
      name: "pure-render-pulumi",
      comment: "a renderer is a pure function: of Pulumi it takes types alone",
      severity: "error",
      from: { path: "^(stacks/targets/[^/]+|k8s)/render[^/]*\\.ts$" },
      to: { path: PULUMI, dependencyTypesNot: ["type-only"] },
    },
    {
      name: "pure-render-component",
      comment: "a renderer knows no component",
      severity: "error",
      from: { path: "^(stacks/targets/[^/]+|k8s)/render[^/]*\\.ts$" },
      to: { path: "^(stacks/image/|(stacks/targets/[^/]+|k8s)/(stack|declare|engine|preflight)\\.ts$)" },
    },
    {
      name: "nothing-imports-the-program",
      comment: "index.ts is the end of the line",
      severity: "error",
      from: { pathNot: "^(index\\.ts$|test/)" },
      to: { path: "^index\\.ts$" },
    },
    {
      name: "k8s-below-targets",
      comment: "a target hands its cluster to k8s/, not the other way round",
      severity: "error",
      from: { path: "^(k8s|stacks/image)/" },
      to: { path: "^stacks/targets/" },
    },
    {
      name: "stack-without-scripts",
      comment: "the program runs without the commands around it",
      severity: "error",
      from: { path: "^(stacks/|k8s/|policy/|index\\.ts$)" },
      to: { path: "^(scripts|offline)/" },
    },
    {
      name: "scripts-read-outputs",
      comment:
        "of a stack the scripts read settings, plan, outputs and what things are called, and look at its engine or cluster; they register nothing",
      severity: "error",
      from: { path: "^scripts/" },
      to: {
        path: "^(stacks/|k8s/|index\\.ts$)",
        pathNot:
          "^(stacks/(settings/|plan/|outputs\\.ts$|targets/docker/(engine|render)\\.ts$|targets/[^/]+/(names|paths|layout)\\.ts$)|k8s/(?!stack\\.ts$))",
      },
    },
    {
      name: "offline-stands-alone",
      comment: "what stands in for downloads knows nothing of the project",
      severity: "error",
      from: { path: "^offline/" },
      to: { path: "^(stacks|scripts|k8s|policy)/|^index\\.ts$" },
    },
    {
      name: "no-test-code",
      comment: "what runs does not need the tests",
      severity: "error",
      from: { pathNot: "^test/" },
      to: { path: "^test/" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    // Type-only imports count: a type is knowledge too.
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      extensions: [".ts", ".mts", ".mjs", ".js", ".json"],
      conditionNames: ["import", "types", "default", "node"],
      exportsFields: ["exports"],
    },
  },
};
