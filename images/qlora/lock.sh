#!/bin/sh
# Resolves the Python packages once, into requirements.lock, and derives from it one lock file for each stage of the image.
#
#   ./lock.sh            brings the lock files up to date with pyproject.toml, keeping the versions that they hold
#   ./lock.sh --upgrade  takes the newest versions that pyproject.toml allows
#   ./lock.sh --check    changes nothing; fails when a lock file is not what this script would write
#
# Needs uv (`pip install uv`). The package index is whatever uv is set up with: no address of one is written into the files.
# A stage is installed with `uv pip install --no-deps --require-hashes -r FILE`: each file is complete by itself.
set -eu
cd "$(dirname "$0")"

# What torch asks for on Linux and neither `import torch` nor training on a CPU loads.
unused_on_cpu="triton liger-kernel nvidia-cusolver-cu12 nvidia-nvtx-cu12 nvidia-cuda-nvrtc-cu12"

check=""
upgrade=""
case "${1:-}" in
  "") ;;
  --upgrade) upgrade="--upgrade" ;;
  --check) check="yes" ;;
  *) echo "lock.sh: unknown option $1; it takes --upgrade or --check" >&2; exit 2 ;;
esac

out="."
if [ -n "$check" ]; then
  out="$(mktemp -d)"
  trap 'rm -rf "$out"' EXIT
  cp requirements*.lock "$out/"
fi

compile() { # compile FILE OPTION…
  file="$1"
  shift
  # shellcheck disable=SC2086
  uv pip compile --quiet --universal --fork-strategy fewest --generate-hashes --no-annotate --no-emit-package tunestack-train \
    --custom-compile-command "images/qlora/lock.sh" --output-file "$out/$file" "$@" pyproject.toml
}

derive() { # derive FILE OPTION…: nothing but what the one resolution holds
  compile "$@" --constraints "$out/requirements.lock"
}

compile requirements.lock --all-extras $upgrade
derive requirements.training-cu126.lock --extra cu126
leave_out=""
for package in $unused_on_cpu; do leave_out="$leave_out --no-emit-package $package"; done
# shellcheck disable=SC2086
derive requirements.training-cpu.lock --extra cpu $leave_out
derive requirements.dev.lock --extra dev
derive requirements.monitor.lock --extra monitor
derive requirements.test.lock --extra test
derive requirements.build.lock --extra build

if [ -n "$check" ]; then
  for file in requirements*.lock; do
    if ! diff -u "$file" "$out/$file"; then
      echo "lock.sh: $file is out of date; run images/qlora/lock.sh" >&2
      exit 1
    fi
  done
fi
