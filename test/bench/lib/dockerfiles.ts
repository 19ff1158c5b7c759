import { MARK } from "./cleanup.ts";

const SHELL = 'SHELL ["/bin/bash", "-euo", "pipefail", "-c"]';
const MARKED_SHELL = `SHELL ["/usr/bin/env", "${MARK}", "/bin/bash", "-euo", "pipefail", "-c"]`;

const ANY_SET = "ARG PYTHON_SET=cu126";
const CUDA_SET = "ENV PYTHON_SET=cu126";

/** Our Dockerfile with PyTorch for CUDA, also where the machine has no GPU and would have the image of the CPU built. */
export function withCudaPackages(dockerfile: string): string {
  if (!dockerfile.includes(ANY_SET)) throw new Error("the Dockerfile does not say which packages it takes for CUDA");
  return dockerfile.replace(ANY_SET, CUDA_SET);
}

/** Our Dockerfile without the order of its layers: the code comes first, so that every edit builds all that follows anew. */
export function withoutLayerOrder(dockerfile: string): string {
  if (!dockerfile.includes(SHELL)) throw new Error("the Dockerfile has no SHELL line to put the code behind");
  return dockerfile.replace(SHELL, `${MARKED_SHELL}\nCOPY src /opt/tunestack/src`);
}

/** A Dockerfile without the installers' caches that outlive a build: what is built anew is fetched anew. */
export function withoutCacheMounts(dockerfile: string): string {
  const without = dockerfile.replaceAll(/--mount=type=cache,target=\S+ /g, "");
  if (without === dockerfile) throw new Error("the Dockerfile has no cache mounts to leave out");
  return without;
}

/** One stage on a base with compilers, pip and its cache: the image as it is written when size is nobody's concern. */
export function withoutStages(base: string, pythonSet: "cu126" | "cpu"): string {
  const locks = [`requirements.training-${pythonSet}.lock`, "requirements.dev.lock", "requirements.monitor.lock"];
  const installs = locks.map(
    (lock) => `/opt/venv/bin/pip install --no-deps --require-hashes --requirement /opt/tunestack/${lock}`,
  );
  return [
    `FROM ${base}`,
    MARKED_SHELL,
    "ENV DEBIAN_FRONTEND=noninteractive",
    "RUN apt-get update; apt-get install --yes build-essential git python3-dev python3-venv restic",
    `COPY ${locks.join(" ")} /opt/tunestack/`,
    `RUN python3 -m venv /opt/venv; ${installs.join("; ")}`,
    "COPY bin /opt/tunestack/bin",
    "COPY etc /opt/tunestack/etc",
    "COPY src /opt/tunestack/src",
    "",
  ].join("\n");
}
