#!/usr/bin/env bash
# Turns the static demo binary into the image skiff/demo, unless it is that already.
set -euo pipefail
binary=$1
digest=$(sha256sum "$binary" | cut -c1-64)
if [ "$(docker image inspect -f '{{ index .Config.Labels "skiff.binary" }}' skiff/demo 2>/dev/null)" = "$digest" ]; then
    exit 0
fi
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$binary" "$context/demo"
cp "$(dirname "$0")/Dockerfile" "$context/"
docker build -q --label "skiff.binary=$digest" -t skiff/demo "$context" >/dev/null
echo "built the image skiff/demo"
