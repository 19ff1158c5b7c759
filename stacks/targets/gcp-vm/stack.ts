import * as gcp from "@pulumi/gcp";
import * as pulumi from "@pulumi/pulumi";
import type { InputsOf } from "../../settings/load.ts";
import type { CloudNames } from "./names.ts";
import { ACCESS_ROLES, renderGrant, renderRole, renderServiceAccount } from "./render-identity.ts";
import { renderIapFirewall, renderNat, renderNetwork, renderRouter, renderSubnet } from "./render-network.ts";
import { renderBucket, renderDataDisk, renderRegistry } from "./render-storage.ts";
import { renderGroup, renderTemplate } from "./render-vm.ts";

export interface GcpVmStackArgs {
  readonly names: CloudNames;
  readonly settings: InputsOf<"gcp-vm">["settings"]["gcp"];
  /** The script that the machine runs at every start. */
  readonly bootScript: string;
}

/** The stack on a GPU VM of Google Cloud that nobody reaches but through Identity-Aware Proxy. */
export class GcpVmStack extends pulumi.ComponentResource {
  readonly bucket: pulumi.Output<string>;
  readonly serviceAccount: pulumi.Output<string>;

  constructor(name: string, args: GcpVmStackArgs, opts?: pulumi.ComponentResourceOptions) {
    super("tunestack:gcp-vm:GcpVmStack", name, {}, opts);
    const account = this.account(name, args);
    const subnet = this.network(name, args, account);
    const bucket = this.storage(name, args, account);
    this.access(name, args, account);
    this.machine(name, args, account, subnet);
    this.bucket = bucket.name;
    this.serviceAccount = account.email;
    this.registerOutputs({ bucket: this.bucket, serviceAccount: this.serviceAccount });
  }

  private account(name: string, { names }: GcpVmStackArgs): gcp.serviceaccount.Account {
    const account = new gcp.serviceaccount.Account(`${name}-account`, renderServiceAccount(names), { parent: this });
    const role = new gcp.projects.IAMCustomRole(`${name}-role`, renderRole(names), { parent: this });
    for (const [suffix, granted] of [
      ["role-grant", role.name],
      ["logs-grant", "roles/logging.logWriter"],
    ] as const) {
      new gcp.projects.IAMMember(`${name}-${suffix}`, renderGrant(names, granted, account.member), { parent: this });
    }
    return account;
  }

  private network(
    name: string,
    { names, settings }: GcpVmStackArgs,
    account: gcp.serviceaccount.Account,
  ): gcp.compute.Subnetwork {
    const network = new gcp.compute.Network(`${name}-network`, renderNetwork(names), { parent: this });
    const subnet = new gcp.compute.Subnetwork(`${name}-subnet`, renderSubnet(names, network.id, settings.subnet), {
      parent: this,
    });
    const router = new gcp.compute.Router(`${name}-router`, renderRouter(names, network.id), { parent: this });
    new gcp.compute.RouterNat(`${name}-nat`, renderNat(names, router.name, subnet.id), { parent: this });
    new gcp.compute.Firewall(`${name}-ssh`, renderIapFirewall(names, network.id, account.email), { parent: this });
    return subnet;
  }

  /** Kept when the stack is destroyed: snapshots and disks are what people come back for. */
  private storage(
    name: string,
    { names, settings }: GcpVmStackArgs,
    account: gcp.serviceaccount.Account,
  ): gcp.storage.Bucket {
    const kept = { parent: this, retainOnDelete: true };
    const bucket = new gcp.storage.Bucket(`${name}-bucket`, renderBucket(names, settings.snapshotRetention), kept);
    new gcp.storage.BucketIAMMember(
      `${name}-bucket-grant`,
      { bucket: bucket.name, role: "roles/storage.objectUser", member: account.member },
      { parent: this },
    );
    for (const zone of settings.zones) {
      new gcp.compute.Disk(`${name}-data-${zone}`, renderDataDisk(names, zone, settings.dataDisk), kept);
    }
    const registry = new gcp.artifactregistry.Repository(`${name}-registry`, renderRegistry(names), { parent: this });
    new gcp.artifactregistry.RepositoryIamMember(
      `${name}-registry-grant`,
      {
        project: names.project,
        location: names.region,
        repository: registry.name,
        role: "roles/artifactregistry.reader",
        member: account.member,
      },
      { parent: this },
    );
    return bucket;
  }

  private access(name: string, { names, settings }: GcpVmStackArgs, account: gcp.serviceaccount.Account): void {
    for (const member of settings.access) {
      const suffix = member.replaceAll(/[^a-zA-Z0-9]+/g, "-");
      for (const [kind, role] of Object.entries(ACCESS_ROLES)) {
        new gcp.projects.IAMMember(`${name}-${kind}-${suffix}`, renderGrant(names, role, member), { parent: this });
      }
      new gcp.serviceaccount.IAMMember(
        `${name}-act-as-${suffix}`,
        { serviceAccountId: account.name, role: "roles/iam.serviceAccountUser", member },
        { parent: this },
      );
    }
  }

  private machine(
    name: string,
    { names, settings, bootScript }: GcpVmStackArgs,
    account: gcp.serviceaccount.Account,
    subnet: gcp.compute.Subnetwork,
  ): void {
    const template = new gcp.compute.InstanceTemplate(
      `${name}-template`,
      renderTemplate(names, settings, { subnet: subnet.id, serviceAccount: account.email, bootScript }),
      { parent: this },
    );
    new gcp.compute.RegionInstanceGroupManager(`${name}-group`, renderGroup(names, settings, template.selfLink), {
      parent: this,
      // The machine takes the group down to none when it is idle, and a start command brings it up again.
      ignoreChanges: ["targetSize"],
    });
  }
}
