#!/bin/sh
# Puts the addon for this platform under prebuilds/, where node-gyp-build finds it at the user's.
# With --release, refuses one that older systems could not load.
set -eu
cd "$(dirname "$0")/.."
rm -rf prebuilds build/stage
mkdir -p build/stage
PREBUILD_NODE_GYP="$PWD/scripts/gyp-shim.sh" node_modules/.bin/prebuildify \
  --napi --strip --tag-libc -t 20.17.0 --name eigenscope --cwd "$PWD/build/stage" --out "$PWD"
node scripts/check-addon.mjs "$@" prebuilds/*/*.node
