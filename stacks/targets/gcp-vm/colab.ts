import * as gcp from "@pulumi/gcp";
import * as pulumi from "@pulumi/pulumi";
import type { InputsOf } from "../../settings/load.ts";
import type { CloudNames } from "../google-cloud/names.ts";
import { renderGrant } from "../google-cloud/render-identity.ts";
import {
  COLAB_ROLE,
  COLAB_SERVICE,
  type ColabSchedule,
  NOTEBOOK_OBJECT,
  renderColabAccount,
  renderKeyGrant,
  renderRuntime,
  renderRuntimeTemplate,
  renderSchedule,
  serviceAgent,
} from "./render-colab.ts";

export interface ColabArgs {
  readonly names: CloudNames;
  readonly settings: InputsOf<"gcp-vm">["settings"]["gcp"]["colab"];
  readonly network: pulumi.Input<string>;
  readonly subnet: pulumi.Input<string>;
  readonly bucket: pulumi.Input<string>;
  /** Absolute path of the notebook that the schedule runs; undefined without a schedule. */
  readonly notebook: string | undefined;
}

/** Colab Enterprise beside the stack's VM: a kind of runtime, runtimes of people, a notebook that is run by the clock. */
export class ColabEnterprise extends pulumi.ComponentResource {
  constructor(name: string, args: ColabArgs, opts?: pulumi.ComponentResourceOptions) {
    super("tunestack:gcp-vm:ColabEnterprise", name, {}, opts);
    const { names, settings } = args;
    const grants = this.key(name, args);
    const template = new gcp.colab.RuntimeTemplate(
      `${name}-template`,
      renderRuntimeTemplate(names, settings, args.network, args.subnet),
      { parent: this, dependsOn: [...grants] },
    );
    this.runtimes(name, args, template);
    if (settings.schedule !== undefined) this.schedule(name, args, settings.schedule, template);
    this.registerOutputs({});
  }

  /** A key encrypts nothing before Google's service agents may use it. */
  private key(name: string, { names: { project }, settings }: ColabArgs): readonly pulumi.Resource[] {
    const { kmsKey, grantKey } = settings;
    if (kmsKey === undefined || !grantKey) return [];
    const identity = { project, service: COLAB_SERVICE };
    const { member } = new gcp.projects.ServiceIdentity(`${name}-agent`, identity, { parent: this });
    return (["results", "disks"] as const).map((user) => {
      const grant = renderKeyGrant(
        kmsKey,
        member.apply((agent) => serviceAgent(agent, user)),
      );
      return new gcp.kms.CryptoKeyIAMMember(`${name}-key-${user}`, grant, { parent: this });
    });
  }

  private runtimes(name: string, { names, settings }: ColabArgs, template: gcp.colab.RuntimeTemplate): void {
    for (const user of settings.users) {
      const suffix = user.replaceAll(/[^a-zA-Z0-9]+/g, "-");
      new gcp.projects.IAMMember(`${name}-use-${suffix}`, renderGrant(names, COLAB_ROLE, `user:${user}`), {
        parent: this,
      });
      new gcp.colab.Runtime(`${name}-runtime-${suffix}`, renderRuntime(names, user, template.id), {
        parent: this,
        // Its user starts it, and idleness stops it.
        ignoreChanges: ["desiredState"],
      });
    }
  }

  private schedule(
    name: string,
    { names, settings, bucket, notebook }: ColabArgs,
    schedule: ColabSchedule,
    template: gcp.colab.RuntimeTemplate,
  ): void {
    if (notebook === undefined) throw new Error("a schedule has a notebook");
    const account = new gcp.serviceaccount.Account(`${name}-account`, renderColabAccount(names), { parent: this });
    const grants = [
      new gcp.storage.BucketIAMMember(
        `${name}-bucket-grant`,
        { bucket, role: "roles/storage.objectUser", member: account.member },
        { parent: this },
      ),
      new gcp.projects.IAMMember(`${name}-logs-grant`, renderGrant(names, "roles/logging.logWriter", account.member), {
        parent: this,
      }),
    ];
    const object = new gcp.storage.BucketObject(
      `${name}-notebook`,
      { bucket, name: NOTEBOOK_OBJECT, source: new pulumi.asset.FileAsset(notebook) },
      { parent: this },
    );
    new gcp.colab.Schedule(
      `${name}-schedule`,
      renderSchedule(names, schedule, settings.kmsKey, {
        template: template.id,
        serviceAccount: account.email,
        notebook: pulumi.interpolate`gs://${bucket}/${object.name}`,
        generation: object.generation.apply(String),
        output: pulumi.interpolate`gs://${bucket}/colab/executed`,
      }),
      { parent: this, dependsOn: grants },
    );
  }
}
