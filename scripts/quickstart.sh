#!/bin/sh
# From a fresh clone to the first spectra: install what is missing, build, run the main job.
set -eu
cd "$(dirname "$0")/.."
sh scripts/setup.sh
echo "Building the C++ core and the TypeScript library"
npm run --silent build
npm run --silent main-job
