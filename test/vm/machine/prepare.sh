#!/bin/bash
# Makes, in /cloud: a certificate for the hosts that the fake cloud answers for, and signed repositories of packages that
# stand in for Docker's and NVIDIA's. Programs of theirs fail where a test asks them to, by a file in /cloud/state.
set -euo pipefail
hosts=(
  storage.googleapis.com secretmanager.googleapis.com compute.googleapis.com us-central1-docker.pkg.dev
  download.docker.com nvidia.github.io archive.ubuntu.com
)
www=/cloud/state/www

names=$(printf ',DNS:%s' "${hosts[@]}")
openssl req -quiet -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=the fake cloud" -addext "subjectAltName=${names:1}" \
  -keyout /cloud/key.pem -out /usr/local/share/ca-certificates/fake-cloud.crt 2> /dev/null || openssl req -x509 \
  -newkey rsa:2048 -nodes -days 3650 -subj "/CN=the fake cloud" -addext "subjectAltName=${names:1}" \
  -keyout /cloud/key.pem -out /usr/local/share/ca-certificates/fake-cloud.crt
cat /cloud/key.pem /usr/local/share/ca-certificates/fake-cloud.crt > /cloud/tls.pem
update-ca-certificates

export GNUPGHOME=/cloud/gnupg
install --directory --mode 0700 "$GNUPGHOME"
gpg --batch --quiet --passphrase "" --quick-generate-key "packages of the tests" rsa2048 sign never
gpg --show-keys --with-colons <(gpg --export) | awk -F: '$1 == "fpr" { print $10; exit }' > /cloud/fingerprint
mkdir -p "$www/download.docker.com/linux/ubuntu" "$www/nvidia.github.io/libnvidia-container"
gpg --armor --export > "$www/download.docker.com/linux/ubuntu/gpg"
gpg --armor --export > "$www/nvidia.github.io/libnvidia-container/gpgkey"
gpg --export > /usr/share/keyrings/ubuntu-of-the-tests.gpg

# package FOLDER NAME: a package of what lies in /cloud/root and /cloud/postinst, both gone afterwards.
package() {
  mkdir -p /cloud/root/DEBIAN "$1"
  printf 'Package: %s\nVersion: 9\nArchitecture: amd64\nMaintainer: tests\nDescription: stands in\n' "$2" \
    > /cloud/root/DEBIAN/control
  if [[ -e /cloud/postinst ]]; then
    install --mode 0755 /cloud/postinst /cloud/root/DEBIAN/postinst
  fi
  dpkg-deb --root-owner-group -Znone --build /cloud/root "$1/$2.deb" > /dev/null
  rm -rf /cloud/root /cloud/postinst
}

# program PATH: a program of the next package, from standard input.
program() {
  mkdir -p "/cloud/root$(dirname "$1")"
  cat > "/cloud/root$1"
  chmod 0755 "/cloud/root$1"
}

sign() {
  apt-ftparchive release "$1" > /cloud/Release
  gpg --batch --quiet --clearsign --output "$1/InRelease" /cloud/Release
}

docker="$www/download.docker.com/linux/ubuntu"
# The engine is Debian's, lies there already and is started by what looks like Docker's own package. Debian's packages
# would not stand that beside them, so nobody knows of them any more.
perl -0pi -e 's/^Package: (docker\.io|containerd)\n.*?\n\n//smg' /var/lib/dpkg/status
printf '#!/bin/sh\nsystemctl enable --quiet docker.service docker.socket\nsystemctl start docker.service\n' > /cloud/postinst
package "$docker/pool" docker-ce
package "$docker/pool" docker-ce-cli
package "$docker/pool" containerd.io
printf '#!/bin/sh\nmkdir -p /usr/libexec/docker/cli-plugins\nln -sf /cloud/docker-compose /usr/libexec/docker/cli-plugins/docker-compose\n' > /cloud/postinst
package "$docker/pool" docker-compose-plugin
mkdir -p "$docker/dists/noble/stable/binary-amd64"
(cd "$docker" && apt-ftparchive packages pool > dists/noble/stable/binary-amd64/Packages)
sign "$docker/dists/noble"

toolkit="$www/nvidia.github.io/libnvidia-container/stable/deb/amd64"
program /usr/bin/nvidia-ctk <<'PROGRAM'
#!/bin/bash
set -e
case "$*" in
  "runtime configure --runtime=docker --cdi.enabled")
    mkdir -p /etc/docker
    echo '{"features": {"cdi": true}, "runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}' > /etc/docker/daemon.json ;;
  "cdi generate --output=/etc/cdi/nvidia.yaml") echo "cdiVersion: 0.5.0" > /etc/cdi/nvidia.yaml ;;
  *) echo "nvidia-ctk: no such command: $*" >&2; exit 1 ;;
esac
PROGRAM
# What the engine runs before a container that asks for a GPU.
program /usr/bin/nvidia-container-runtime-hook <<'PROGRAM'
#!/bin/bash
[[ ! -e /cloud/state/gpu-fails ]] || { echo "nvidia-container-cli: initialization error: nvml error: driver not loaded" >&2; exit 1; }
PROGRAM
package "$toolkit" nvidia-container-toolkit
(cd "$toolkit" && apt-ftparchive packages . > Packages)
sign "$toolkit"

ubuntu="$www/archive.ubuntu.com/ubuntu"
package "$ubuntu" nvidia-headless-no-dkms-570-server
package "$ubuntu" linux-modules-nvidia-570-server-6.8.0-1042-gcp
package "$ubuntu" acl
package "$ubuntu" linux-gcp
package "$ubuntu" linux-modules-nvidia-570-server-gcp
program /usr/bin/nvidia-smi <<'PROGRAM'
#!/bin/bash
case "$*" in
  *utilization*) cat /cloud/state/gpu-percent 2> /dev/null || echo 0 ;;
  *) echo "NVIDIA L4, 570.172.08, 23034 MiB" ;;
esac
PROGRAM
package "$ubuntu" nvidia-utils-570-server
(cd "$ubuntu" && apt-ftparchive packages . > Packages)
sign "$ubuntu"
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
echo "deb [signed-by=/usr/share/keyrings/ubuntu-of-the-tests.gpg] https://archive.ubuntu.com/ubuntu ./" > /etc/apt/sources.list

# Google's kernel, and its modules.
cat > /usr/local/bin/uname <<'PROGRAM'
#!/bin/bash
[[ "$*" == -r ]] || exec /bin/uname "$@"
cat /cloud/state/kernel 2> /dev/null || echo 6.8.0-1042-gcp
PROGRAM
cat > /usr/local/sbin/modprobe <<'PROGRAM'
#!/bin/bash
[[ "$1" == nvidia* ]] || exec /sbin/modprobe "$@"
[[ ! -e /cloud/state/driver-fails ]] || { echo "modprobe: ERROR: could not insert '$1': Key was rejected by service" >&2; exit 1; }
PROGRAM
chmod 0755 /usr/local/bin/uname /usr/local/sbin/modprobe

# Google attaches the data disk: a file as a block device, freed when it is unmounted.
cat > /cloud/state/attach <<'PROGRAM'
#!/bin/bash
set -euo pipefail
exec > /cloud/attach.log 2>&1
[[ -e /dev/loop-control ]] || mknod /dev/loop-control c 10 237
device=$(losetup --find)
[[ -e "$device" ]] || mknod "$device" b 7 "${device#/dev/loop}"
losetup "$device" /cloud/disk
mkdir -p /dev/disk/by-id
ln -sf "$device" /dev/disk/by-id/google-tunestack-data
(
  for _ in {1..300}; do
    ! mountpoint --quiet /var/lib/tunestack || break
    [[ ! -e /cloud/state/detach ]] || break
    sleep 0.1
  done
  losetup --detach "$device"
) < /dev/null > /dev/null 2>&1 &
PROGRAM
chmod 0755 /cloud/state/attach
