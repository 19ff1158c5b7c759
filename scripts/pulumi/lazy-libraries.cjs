// Loaded before the libraries (`node --require`) that load others at their start and hardly ever use them. Those are
// loaded when something of them is first used. The figures are in docs/experiments.md.
const Module = require("node:module");

const LATE = [
  // To serialize functions, which nothing here does: half of the time that an import of the SDK takes.
  { by: /[\\/]@pulumi[\\/]pulumi[\\/]/, libraries: new Set(["typescript", "@npmcli/arborist"]) },
  // For builds by the engine's API, and for engines on other machines.
  { by: /[\\/]dockerode[\\/]/, libraries: new Set(["@grpc/grpc-js", "@grpc/proto-loader", "protobufjs"]) },
  { by: /[\\/]docker-modem[\\/]/, libraries: new Set(["./ssh"]) },
];

const load = Module._load;

Module._load = function loadLazily(request, parent, isMain) {
  const late = LATE.some(({ by, libraries }) => libraries.has(request) && by.test(parent?.filename ?? ""));
  if (!late) return load.call(this, request, parent, isMain);
  let library;
  const real = () => {
    library ??= load.call(Module, request, parent, isMain);
    return library;
  };
  return new Proxy(() => undefined, {
    // Compiled imports ask for `__esModule`, and would copy what says no, key by key.
    get: (_target, key) => (key === "__esModule" ? true : real()[key]),
    has: (_target, key) => key in real(),
    apply: (_target, self, args) => Reflect.apply(real(), self, args),
  });
};
