#!/bin/sh
# Stands in for node-gyp when prebuildify builds: node-gyp's arguments (rebuild --target=20.0.0 ...)
# mean other things to cmake-js and are dropped. The addon is copied to the folder prebuildify
# runs in, because it strips and moves away what it finds there.
set -eu
stage=$PWD
cd "$(dirname "$0")/.."
node_modules/.bin/cmake-js build --target eigenscope
mkdir -p "$stage/build/Release"
cp build/Release/eigenscope.node "$stage/build/Release/"
