#!/bin/sh
# node_tools.sh VENV: puts the Khronos glTF validator into VENV/node, where the tests look for it. Without node and npm,
# or without a registry, nothing happens and that test is skipped.
set -u
venv=$1

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    echo "node or npm is not installed: the test with the Khronos glTF validator will be skipped"
    exit 0
fi
[ -d "$venv/node/node_modules/gltf-validator" ] && exit 0
mkdir -p "$venv/node"
npm install --prefix "$venv/node" --no-audit --no-fund --loglevel=error gltf-validator ||
    echo "gltf-validator could not be installed: its test will be skipped"
exit 0
