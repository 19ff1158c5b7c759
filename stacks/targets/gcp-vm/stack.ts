import { resolve } from "node:path";
import * as gcp from "@pulumi/gcp";
import * as pulumi from "@pulumi/pulumi";
import { TunestackImage } from "../../image/image.ts";
import type { ImageStage, Plan } from "../../plan/types.ts";
import { googleServices } from "../../settings/gcp.ts";
import { GENERATED_SECRETS, type InputsOf } from "../../settings/load.ts";
import type { CloudNames } from "../google-cloud/names.ts";
import { renderGrant, renderRegistryReader } from "../google-cloud/render-identity.ts";
import { renderNat, renderNetwork, renderRouter, renderSubnet } from "../google-cloud/render-network.ts";
import { renderBudget, renderService } from "../google-cloud/render-project.ts";
import { imageName, renderBucket, renderRegistry } from "../google-cloud/render-storage.ts";
import { ColabEnterprise } from "./colab.ts";
import type { InputFile } from "./inputs.ts";
import { PLAN_OBJECT } from "./paths.ts";
import { composeText, renderCompose } from "./render-compose.ts";
import { renderIapFirewall } from "./render-firewall.ts";
import { ACCESS_ROLES, renderRole, renderServiceAccount } from "./render-identity.ts";
import { renderDataDisk, renderSecret, renderSecretReader } from "./render-storage.ts";
import { renderGroup, renderTemplate } from "./render-vm.ts";

export interface GcpVmStackArgs {
  readonly names: CloudNames;
  readonly settings: InputsOf<"gcp-vm">["settings"]["gcp"];
  readonly plan: Plan;
  /** Absolute folder of the project. */
  readonly projectDir: string;
  /** Whose containers these are; a label of each. */
  readonly owner: string;
  /** Files of this machine that containers read. */
  readonly inputs: readonly InputFile[];
  /** Value of each secret that is set, by its name. */
  readonly secrets: ReadonlyMap<string, pulumi.Output<string>>;
  /** The script that the machine runs at every start. */
  readonly bootScript: string;
}

/** The stack on a GPU VM of Google Cloud that nobody reaches but through Identity-Aware Proxy. */
export class GcpVmStack extends pulumi.ComponentResource {
  /** Reference of each image that was pushed, by its stage. */
  readonly images: TunestackImage["references"];
  /** The services of Google's that the rest needs. */
  readonly #enabled: readonly gcp.projects.Service[];

  constructor(name: string, args: GcpVmStackArgs, opts?: pulumi.ComponentResourceOptions) {
    super("tunestack:gcp-vm:GcpVmStack", name, {}, opts);
    this.#enabled = this.enable(name, args);
    const account = this.account(name, args);
    const { network, subnet } = this.network(name, args, account);
    const bucket = this.bucket(name, args, account);
    const disks = this.disks(name, args);
    const image = this.image(name, args, account);
    const secrets = this.secrets(name, args, account);
    const content = this.content(name, args, bucket, image);
    this.access(name, args, account);
    this.budget(name, args);
    this.colab(name, args, { network, subnet, bucket });
    // Whatever the machine asks for at its first start is there by then.
    this.machine(name, args, { account, subnet, dependsOn: [...disks, ...secrets, ...content] });
    this.images = image.references;
    this.registerOutputs({ images: this.images });
  }

  private enable(name: string, { names, settings }: GcpVmStackArgs): readonly gcp.projects.Service[] {
    return googleServices(settings).map(
      (service) =>
        new gcp.projects.Service(`${name}-api-${service}`, renderService(names, service), {
          parent: this,
          retainOnDelete: true,
        }),
    );
  }

  private child(more: pulumi.CustomResourceOptions = {}): pulumi.CustomResourceOptions {
    return { parent: this, dependsOn: [...this.#enabled], ...more };
  }

  private account(name: string, { names }: GcpVmStackArgs): gcp.serviceaccount.Account {
    const account = new gcp.serviceaccount.Account(`${name}-account`, renderServiceAccount(names), this.child());
    const role = new gcp.projects.IAMCustomRole(`${name}-role`, renderRole(names), this.child());
    for (const [suffix, granted] of [
      ["role-grant", role.name],
      ["logs-grant", "roles/logging.logWriter"],
    ] as const) {
      new gcp.projects.IAMMember(`${name}-${suffix}`, renderGrant(names, granted, account.member), this.child());
    }
    return account;
  }

  private network(
    name: string,
    { names, settings }: GcpVmStackArgs,
    account: gcp.serviceaccount.Account,
  ): { readonly network: gcp.compute.Network; readonly subnet: gcp.compute.Subnetwork } {
    const network = new gcp.compute.Network(`${name}-network`, renderNetwork(names), this.child());
    const subnet = new gcp.compute.Subnetwork(
      `${name}-subnet`,
      renderSubnet(names, network.id, settings.subnet),
      this.child(),
    );
    const router = new gcp.compute.Router(`${name}-router`, renderRouter(names, network.id), this.child());
    new gcp.compute.RouterNat(`${name}-nat`, renderNat(names, router.name, subnet.id), this.child());
    new gcp.compute.Firewall(`${name}-ssh`, renderIapFirewall(names, network.id, account.email), this.child());
    return { network, subnet };
  }

  /** Kept when the stack is destroyed: snapshots are what people come back for. */
  private bucket(
    name: string,
    { names, settings }: GcpVmStackArgs,
    account: gcp.serviceaccount.Account,
  ): gcp.storage.Bucket {
    const args = renderBucket(names, settings.snapshotRetention);
    const bucket = new gcp.storage.Bucket(`${name}-bucket`, args, this.child({ retainOnDelete: true }));
    new gcp.storage.BucketIAMMember(
      `${name}-bucket-grant`,
      { bucket: bucket.name, role: "roles/storage.objectUser", member: account.member },
      this.child(),
    );
    return bucket;
  }

  private disks(name: string, { names, settings }: GcpVmStackArgs): readonly gcp.compute.Disk[] {
    return settings.zones.map(
      (zone) =>
        new gcp.compute.Disk(
          `${name}-data-${zone}`,
          renderDataDisk(names, zone, settings.dataDisk),
          this.child({ retainOnDelete: true }),
        ),
    );
  }

  private image(
    name: string,
    { names, plan, projectDir }: GcpVmStackArgs,
    account: gcp.serviceaccount.Account,
  ): TunestackImage {
    const registry = new gcp.artifactregistry.Repository(`${name}-registry`, renderRegistry(names), this.child());
    new gcp.artifactregistry.RepositoryIamMember(
      `${name}-registry-grant`,
      renderRegistryReader(names, registry.name, account.member),
      this.child(),
    );
    const tagOf = (stage: ImageStage) => imageName(names, stage);
    return new TunestackImage(
      `${name}-image`,
      { plan: plan.image, projectDir, tagOf, push: true },
      { parent: this, dependsOn: registry },
    );
  }

  private secrets(
    name: string,
    { names, secrets }: GcpVmStackArgs,
    account: gcp.serviceaccount.Account,
  ): readonly pulumi.Resource[] {
    return [...secrets].flatMap(([key, secretData]) => {
      const secret = new gcp.secretmanager.Secret(`${name}-secret-${key}`, renderSecret(names, key), this.child());
      return [
        new gcp.secretmanager.SecretVersion(
          `${name}-secret-${key}-value`,
          { secret: secret.id, secretData },
          // What set-up made stays as it was made first: another clone has another, and old snapshots need theirs.
          this.child(GENERATED_SECRETS.some((made) => made === key) ? { ignoreChanges: ["secretData"] } : {}),
        ),
        new gcp.secretmanager.SecretIamMember(
          `${name}-secret-${key}-grant`,
          renderSecretReader(names, secret.secretId, account.member),
          this.child(),
        ),
      ];
    });
  }

  /** What the machine runs, and the files of this machine that it reads. */
  private content(
    name: string,
    { plan, owner, inputs }: GcpVmStackArgs,
    bucket: gcp.storage.Bucket,
    image: TunestackImage,
  ): readonly pulumi.Resource[] {
    const files = inputs.map(
      ({ object, file }) =>
        new gcp.storage.BucketObject(
          `${name}-${object}`,
          { bucket: bucket.name, name: object, source: new pulumi.asset.FileAsset(file) },
          this.child(),
        ),
    );
    const content = pulumi.all(image.references).apply((built) =>
      composeText(
        renderCompose(plan, owner, {
          image: (reference) => (reference.kind === "registry" ? reference.reference : imageOf(built, reference.stage)),
        }),
      ),
    );
    const compose = new gcp.storage.BucketObject(
      `${name}-plan`,
      { bucket: bucket.name, name: PLAN_OBJECT, content, contentType: "application/yaml" },
      // The machine takes the plan up as soon as it is there, so what it mounts comes first.
      this.child({ dependsOn: [...this.#enabled, ...files] }),
    );
    return [...files, compose];
  }

  private access(name: string, { names, settings }: GcpVmStackArgs, account: gcp.serviceaccount.Account): void {
    for (const member of settings.access) {
      const suffix = member.replaceAll(/[^a-zA-Z0-9]+/g, "-");
      for (const [kind, role] of Object.entries(ACCESS_ROLES)) {
        new gcp.projects.IAMMember(`${name}-${kind}-${suffix}`, renderGrant(names, role, member), this.child());
      }
      new gcp.serviceaccount.IAMMember(
        `${name}-act-as-${suffix}`,
        { serviceAccountId: account.name, role: "roles/iam.serviceAccountUser", member },
        this.child(),
      );
    }
  }

  private budget(name: string, { names, settings }: GcpVmStackArgs): void {
    if (settings.budget === undefined) return;
    new gcp.billing.Budget(
      `${name}-budget`,
      renderBudget(names, settings.budget),
      // Google gives the project's number back for its id.
      this.child({ ignoreChanges: ["budgetFilter.projects"] }),
    );
  }

  private colab(
    name: string,
    { names, settings, projectDir }: GcpVmStackArgs,
    { network, subnet, bucket }: ColabNeeds,
  ): void {
    const { colab } = settings;
    if (!colab.enabled) return;
    const notebook = colab.schedule === undefined ? undefined : resolve(projectDir, colab.schedule.notebook);
    new ColabEnterprise(
      `${name}-colab`,
      { names, settings: colab, network: network.id, subnet: subnet.id, bucket: bucket.name, notebook },
      { parent: this, dependsOn: [...this.#enabled] },
    );
  }

  private machine(
    name: string,
    { names, settings, bootScript }: GcpVmStackArgs,
    { account, subnet, dependsOn }: MachineNeeds,
  ): void {
    const template = new gcp.compute.InstanceTemplate(
      `${name}-template`,
      renderTemplate(names, settings, { subnet: subnet.id, serviceAccount: account.email, bootScript }),
      this.child(),
    );
    new gcp.compute.RegionInstanceGroupManager(
      `${name}-group`,
      renderGroup(names, settings, template.selfLinkUnique),
      this.child({
        dependsOn: [...this.#enabled, ...dependsOn],
        // The machine takes the group down to none when its time is over, and a start command brings it up again.
        ignoreChanges: ["targetSize"],
      }),
    );
  }
}

interface ColabNeeds {
  readonly network: gcp.compute.Network;
  readonly subnet: gcp.compute.Subnetwork;
  readonly bucket: gcp.storage.Bucket;
}

interface MachineNeeds {
  readonly account: gcp.serviceaccount.Account;
  readonly subnet: gcp.compute.Subnetwork;
  readonly dependsOn: readonly pulumi.Resource[];
}

function imageOf(built: Readonly<Partial<Record<ImageStage, string>>>, stage: ImageStage): string {
  const image = built[stage];
  if (image === undefined) throw new Error(`the plan uses an image that it does not build: ${stage}`);
  return image;
}
