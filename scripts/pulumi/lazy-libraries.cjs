// Loaded before Pulumi's SDK (`node --require`). The SDK loads the TypeScript compiler and npm's Arborist at its start, half
// of the time that an import of it takes, and needs them only to serialize functions, which nothing here does. Both are
// loaded when something of them is first used. The figures are in docs/experiments.md.
const Module = require("node:module");

const LIBRARIES = new Set(["typescript", "@npmcli/arborist"]);
const SDK = /[\\/]@pulumi[\\/]pulumi[\\/]/;

const load = Module._load;

Module._load = function loadLazily(request, parent, isMain) {
  if (!LIBRARIES.has(request) || !SDK.test(parent?.filename ?? "")) return load.call(this, request, parent, isMain);
  let library;
  const real = () => {
    library ??= load.call(Module, request, parent, isMain);
    return library;
  };
  return new Proxy(
    {},
    {
      // Compiled imports ask for `__esModule`, and would copy what says no, key by key.
      get: (_target, key) => (key === "__esModule" ? true : real()[key]),
      has: (_target, key) => key in real(),
    },
  );
};
