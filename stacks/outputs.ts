import type { Plan, VolumeName, WorkloadName } from "./plan/types.ts";

/** What a stack tells the scripts; they read nothing else of it. Raise `version` with every change that breaks a reader. */
export interface StackOutputs {
  readonly version: 1;
  readonly target: "docker";
  readonly stack: string;
  /** Engine that the containers are on; undefined is the local socket. */
  readonly engine?: string;
  readonly services: readonly ServiceOutput[];
  readonly run?: RunOutput;
  readonly leftOut: readonly { readonly service: string; readonly reason: string }[];
  readonly volumes: Readonly<Record<VolumeName, string>>;
  readonly images: Readonly<Record<string, string>>;
}

export interface ServiceOutput {
  readonly name: WorkloadName;
  readonly container: string;
  /** Address for a browser; undefined for a service without a port. */
  readonly url?: string;
}

export interface RunOutput {
  readonly name: string;
  readonly container: string;
  readonly preset?: string;
  readonly model?: string;
  readonly data: string;
}

export interface OutputNames {
  readonly container: (name: WorkloadName) => string;
  readonly volume: (name: VolumeName) => string;
}

/** The part of the outputs that is known without registering anything. */
export function planOutputs(plan: Plan, engine: string | undefined, names: OutputNames): Omit<StackOutputs, "images"> {
  const volumes = Object.fromEntries(plan.volumes.map(({ name }) => [name, names.volume(name)]));
  return {
    version: 1,
    target: "docker",
    stack: plan.stack,
    ...(engine === undefined ? {} : { engine }),
    services: plan.services.map(({ name, ports, browse }) => ({
      name,
      container: names.container(name),
      ...(ports[0] === undefined ? {} : { url: `http://127.0.0.1:${ports[0].host}${browse ?? "/"}` }),
    })),
    ...(plan.run === undefined
      ? {}
      : {
          run: {
            name: plan.run.run,
            container: names.container(plan.run.workload.name),
            ...(plan.run.preset === undefined ? {} : { preset: plan.run.preset }),
            ...(plan.run.model === undefined ? {} : { model: plan.run.model }),
            data: plan.run.data,
          },
        }),
    leftOut: plan.leftOut,
    volumes: volumes as Record<VolumeName, string>,
  };
}
