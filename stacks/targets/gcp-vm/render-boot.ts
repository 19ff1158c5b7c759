import { VM_PATHS } from "./paths.ts";

/** What the boot script is made of; nothing that a new run or image changes, so that the VM is not replaced for them. */
export interface BootOptions {
  readonly project: string;
  readonly region: string;
  /** Name of the instance group; secrets and data disks begin with it. */
  readonly group: string;
  readonly bucket: string;
  /** Names of the secrets that the VM asks for. */
  readonly secrets: readonly string[];
  readonly maximumRunSeconds: number;
  readonly idleShutdownSeconds: number;
  /** Text of the agent's Python modules by their names. Example: `{ "agent.py": "…" }`. */
  readonly agent: Readonly<Record<string, string>>;
}

/**
 * NVIDIA's driver branch, as Canonical builds it. Its modules are signed with Ubuntu's key and made for the very kernel,
 * so Secure Boot stays on and nothing is compiled at boot; NVIDIA's own repository builds modules on the machine, which
 * Secure Boot refuses without a key enrolled by hand. It serves every GPU from the T4 to the H100 and CUDA 12.6.
 */
const DRIVER = "570-server";

/** Whoever signs a repository is known by the fingerprint of the key, not by where the key was fetched. */
export const DOCKER_KEY = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88";
export const TOOLKIT_KEY = "C95B321B61E88C1809C4F759DDCAE044F796ECB0";

/**
 * The script that the VM runs as root at each start. Each step looks whether it has been done, so a second start is
 * quick and changes nothing. It ends with the agent as a service, which brings the plan up.
 */
export function renderBoot(options: BootOptions): string {
  return `${[
    "#!/bin/bash",
    "# Made by tunestack. Runs as root at each start of the VM; each step looks first whether it has been done.",
    "set -Eeuo pipefail",
    "export DEBIAN_FRONTEND=noninteractive",
    "",
    agent(options),
    helpers(options),
    MEMORY,
    disk(),
    repositories(),
    DRIVER_AND_ENGINE,
    GPU_PROOF,
    SERVICE,
  ].join("\n")}\n`;
}

/** First of all, since it can tell how far the rest is, and that the VM's time is over. */
function agent({ agent: modules, ...settings }: BootOptions): string {
  const files = Object.entries(modules).map(
    ([name, text]) => `cat > /opt/tunestack/${name} <<'TUNESTACK_AGENT'\n${text.trimEnd()}\nTUNESTACK_AGENT`,
  );
  return `install --directory --mode 0755 /etc/tunestack /opt/tunestack /run/tunestack
cat > /etc/tunestack/agent.json <<'TUNESTACK_CONFIGURATION'
${JSON.stringify(settings)}
TUNESTACK_CONFIGURATION
${files.join("\n")}
`;
}

/**
 * A VM whose boot failed would cost until the cloud ends it. People have the time of gcp.idleShutdown to look at it.
 * What a failed step wrote is told with it, and no step writes a secret.
 */
function helpers({ idleShutdownSeconds }: BootOptions): string {
  return `exec > >(tee /run/tunestack/boot.log) 2>&1

tell() {
  python3 /opt/tunestack/agent.py status "$1" "$2" || true
}

# What fails is told where people look: the serial console and the bucket.
failed() {
  # Of what runs within another command, that one fails too.
  [[ "$BASH_SUBSHELL" == 0 ]] || exit 1
  trap - ERR
  # What the step wrote last is on its way through tee.
  sleep 1
  tell failed "$stage: $(grep --invert-match '^tunestack: booting' /run/tunestack/boot.log | tail --lines 6 | cut --characters 1-400) (line $1 of the boot script; the VM goes in ${Math.round(idleShutdownSeconds / 60)} min)"
  systemd-run --quiet --collect --unit tunestack-give-up --on-active ${Math.ceil(idleShutdownSeconds)} \\
    --timer-property AccuracySec=1s python3 /opt/tunestack/agent.py give-up || true
  exit 1
}
stage="starting"
trap 'failed "$LINENO"' ERR

step() {
  stage="$1"
  tell booting "$1"
}

# Of an earlier try: somebody starts this again by hand.
systemctl stop tunestack-give-up.timer 2> /dev/null || true
step "looking whether the time of the VM is over"
over=0
python3 /opt/tunestack/agent.py check-lease || over=$?
if [[ "$over" == 10 ]]; then
  exit 0
fi
[[ "$over" == 0 ]]
`;
}

const MEMORY = `step "making room for secrets in memory"
install --directory --mode 0700 /run/tunestack/docker
install --directory --mode 0711 ${VM_PATHS.secrets}
if ! mountpoint --quiet ${VM_PATHS.secrets}; then
  mount -t tmpfs -o mode=0711,size=1m,nosuid,nodev,noexec tmpfs ${VM_PATHS.secrets}
fi
`;

function disk(): string {
  return `step "attaching the data disk of this zone"
python3 /opt/tunestack/agent.py attach-disk
device=/dev/disk/by-id/google-tunestack-data
step "mounting the data disk"
if ! mountpoint --quiet ${VM_PATHS.data}; then
  # Only a disk without anything on it is formatted: blkid knows nothing on it (2), and it begins with zeros.
  known=0
  blkid --probe "$device" || known=$?
  if [[ "$known" == 2 ]]; then
    if ! cmp --silent --bytes=1048576 "$device" /dev/zero; then
      echo "the disk holds something that is no file system: look at it, and empty it by blkdiscard $device" >&2
      false
    fi
    mkfs.ext4 -q -L tunestack -m 0 "$device"
  fi
  install --directory --mode 0755 ${VM_PATHS.data}
  mount -o discard,nosuid,nodev "$device" ${VM_PATHS.data}
fi
# The disk may have grown.
resize2fs "$device"
install --directory --mode 0755 ${VM_PATHS.volumes} ${VM_PATHS.inputs}
`;
}

function repositories(): string {
  return `step "adding the package repositories of Docker and NVIDIA"
# add_repository NAME KEY_URL FINGERPRINT LINE
add_repository() {
  local keyring="/etc/apt/keyrings/$1.gpg" folder found
  if [[ ! -s "$keyring" ]]; then
    folder=$(mktemp --directory)
    curl --fail --silent --show-error --location --retry 5 --retry-all-errors --output "$folder/key" "$2"
    found=$(gpg --homedir "$folder" --show-keys --with-colons "$folder/key" | awk -F: '$1 == "fpr" && !seen++ { print $10 }')
    if [[ "$found" != "$3" ]]; then
      echo "the key at $2 is $found, and not $3" >&2
      return 1
    fi
    gpg --homedir "$folder" --dearmor --output "$keyring.new" "$folder/key"
    chmod 0644 "$keyring.new"
    mv "$keyring.new" "$keyring"
    rm -r "$folder"
  fi
  echo "deb [arch=amd64 signed-by=$keyring] $4" > "/etc/apt/sources.list.d/$1.list"
}
install --directory --mode 0755 /etc/apt/keyrings
add_repository docker https://download.docker.com/linux/ubuntu/gpg ${DOCKER_KEY} \\
  "https://download.docker.com/linux/ubuntu noble stable"
add_repository nvidia-container-toolkit https://nvidia.github.io/libnvidia-container/gpgkey ${TOOLKIT_KEY} \\
  "https://nvidia.github.io/libnvidia-container/stable/deb/amd64 /"
`;
}

const DRIVER_AND_ENGINE = `step "installing the NVIDIA driver, Docker and nvidia-container-toolkit"
# An upgrade in the background holds apt's locks, and one of the driver's libraries would break a run in progress.
systemctl disable --quiet --now apt-daily.timer apt-daily-upgrade.timer 2> /dev/null || true
systemctl stop apt-daily.service apt-daily-upgrade.service 2> /dev/null || true
patiently=(-o DPkg::Lock::Timeout=600 -o Acquire::Retries=5)
# acl: whoever logs in with the right to administer gets one to the engine's socket.
packages=(
  acl
  nvidia-headless-no-dkms-${DRIVER} nvidia-utils-${DRIVER} "linux-modules-nvidia-${DRIVER}-$(uname -r)"
  docker-ce docker-ce-cli containerd.io docker-compose-plugin nvidia-container-toolkit
)
# What was removed or half installed has another status.
installed=$(dpkg-query --show --showformat '\${db:Status-Abbrev}\n' "\${packages[@]}" 2> /dev/null | grep --count ^ii || true)
if [[ "$installed" != "\${#packages[@]}" ]]; then
  apt-get "\${patiently[@]}" --error-on=any update
  if ! apt-cache show "linux-modules-nvidia-${DRIVER}-$(uname -r)" > /dev/null 2>&1; then
    # No module was made for this kernel: a newer kernel has one, and this script runs again after the restart.
    if [[ -e /opt/tunestack/restarted-for-the-driver ]]; then
      echo "there is no NVIDIA driver ${DRIVER} for the kernel $(uname -r), also after a restart" >&2
      false
    fi
    step "taking a kernel that the NVIDIA driver is made for, and restarting"
    apt-get "\${patiently[@]}" install --yes linux-gcp linux-modules-nvidia-${DRIVER}-gcp
    touch /opt/tunestack/restarted-for-the-driver
    systemctl reboot
    exit 0
  fi
  apt-get "\${patiently[@]}" install --yes --no-install-recommends "\${packages[@]}"
fi
# Containers need the disk and the secrets, so after a restart of the VM Docker waits for this script.
systemctl disable --quiet docker.service docker.socket

step "loading the NVIDIA driver"
modprobe nvidia
modprobe nvidia-uvm
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader

step "making the GPU known to Docker"
before=$(sha256sum /etc/docker/daemon.json 2> /dev/null || true)
nvidia-ctk runtime configure --runtime=docker --cdi.enabled
install --directory --mode 0755 /etc/cdi
nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml
# A restart ends what runs in containers: only for new settings.
if [[ "$before" != "$(sha256sum /etc/docker/daemon.json)" ]]; then
  systemctl restart docker.service
fi
systemctl start docker.service
`;

/** The toolkit puts the driver's own programs in, so any small image proves it; this one is in Google's own network. */
const GPU_PROOF = `step "proving the GPU in a container"
docker run --rm --network none --gpus all mirror.gcr.io/library/ubuntu:24.04 nvidia-smi --list-gpus
`;

const SERVICE = `step "starting the services"
cat > /etc/systemd/system/tunestack-agent.service <<'TUNESTACK_UNIT'
[Unit]
Description=tunestack: applies the plan from the bucket
Requires=docker.service
# It stops before Docker does, so what a shutdown ends is not taken for what a person stopped.
After=docker.service network-online.target
Wants=network-online.target
RequiresMountsFor=${VM_PATHS.data}

[Service]
ExecStart=/usr/bin/python3 /opt/tunestack/agent.py serve
# What it says is on the serial console too.
StandardOutput=journal+console
StandardError=journal+console
# A last snapshot is taken when the VM goes down.
TimeoutStopSec=60
Restart=on-failure
RestartSec=10

[Install]
WantedBy=multi-user.target
TUNESTACK_UNIT
systemctl daemon-reload
# Not enabled: at each start this script comes first, and the disk has to be there.
systemctl restart tunestack-agent.service
`;
