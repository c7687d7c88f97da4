#!/usr/bin/env bash
# Makes a local debian:bookworm-slim where no image can be pulled: debootstrap's minimal system, cleaned and imported.
#
#   deploy/base-image.sh            # as root; needs debootstrap and docker; does nothing if the image is there
set -euo pipefail

image=debian:bookworm-slim
if docker image inspect "$image" > /dev/null 2>&1; then
  echo "base image: $image is there"
  exit 0
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase bookworm "$root" > "$root.log" 2>&1 || { tail -20 "$root.log"; exit 1; }
rm -rf "$root.log" "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* \
  "$root"/usr/share/{doc,info,locale,man}/*
tar -C "$root" -c . | docker import - "$image" > /dev/null
echo "base image: made $image, $(docker image inspect --format '{{.Size}}' "$image" | awk '{ printf "%d MB", $1 / 1e6 }')"
