#!/usr/bin/env bash
# Makes an image from a program that is built already.
#
#   deploy/image.sh PROGRAM TAG [LIBRARY...]
#
# PROGRAM is target/release/ringmaster; libraries (libtorch's, for a program with the feature tch) go beside it.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
program=$1 tag=$2
shift 2
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir "$context/lib"
cp "$program" "$context/ringmaster"
if [ $# -gt 0 ]; then cp -L "$@" "$context/lib/"; fi
python3 "$here/sbom.py" > "$context/sbom.cdx.json"
docker build --quiet --file "$here/Dockerfile" --target prebuilt --tag "$tag" "$context" > /dev/null
echo "image: $tag, $(docker image inspect --format '{{.Size}}' "$tag" | awk '{ printf "%d MB", $1 / 1e6 }')"
