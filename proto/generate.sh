#!/usr/bin/env bash
# Writes agentkeeper/_pb from the proto file; with --check, only says whether it is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
python -m grpc_tools.protoc -Iproto --python_out="$out" --pyi_out="$out" proto/agentkeeper/v1/agentkeeper.proto
for kind in py pyi; do
  made="$out/agentkeeper/v1/agentkeeper_pb2.$kind"
  kept="agentkeeper/_pb/agentkeeper_pb2.$kind"
  if [ "${1:-}" = --check ]; then
    cmp -s "$made" "$kept" || { echo "$kept is not what the proto file gives: run make generate" >&2; exit 1; }
  else
    cp "$made" "$kept"
  fi
done
