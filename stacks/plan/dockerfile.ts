import { createHash } from "node:crypto";
import type { ImagePlan } from "./types.ts";

/**
 * The arguments of the Dockerfile that a plan sets.
 * @param certificate text of the proxy's certificate, which goes in by its hash: the file itself is a secret mount.
 */
export function dockerfileArguments(
  plan: ImagePlan,
  certificate: string | undefined,
): Readonly<Record<string, string>> {
  return {
    BASE_IMAGE: plan.base,
    PYTHON_SET: plan.pythonSet,
    ...(plan.pypiMirror === undefined ? {} : { PYPI_MIRROR: plan.pypiMirror }),
    ...(plan.aptMirror === undefined ? {} : { APT_MIRROR: plan.aptMirror }),
    ...(certificate === undefined
      ? {}
      : { CA_CERTIFICATE_SHA256: createHash("sha256").update(certificate).digest("hex") }),
  };
}
