#!/usr/bin/env bash
# A foreign client: Python stubs generated from proto/, tests that like, list, watch and read errors with their details.
#
#   scripts/test_python_client.sh [--private] [--no-build]
#
# Uses what scripts/up.sh started, or GRPC_ADDR in the environment; with --private an installation of its own (PROFILE=debug
# for debug programs), which is removed at the end. Installs python3-venv if missing and takes gRPC for Python from PyPI
# into a temporary directory; if PyPI cannot be reached it says "not run" and that is no failure. Exit code 1 if a test failed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

private=0 up=()
for argument in "$@"; do
  case $argument in
    --private) private=1 ;;
    --no-build) up+=("$argument") ;;
    *) die "unknown argument $argument; usage: scripts/test_python_client.sh [--private] [--no-build]" ;;
  esac
done

if ((private)); then
  private_installation likes-python
  unset GRPC_ADDR
else
  work=$(mktemp -d "${TMPDIR:-/tmp}/likes-python-XXXXXX")
  trap 'rm -rf "$work"' EXIT
fi

python_venv "$work/venv" --requirement "$ROOT/scripts/python_requirements.txt" || {
  printf 'not run: PyPI cannot be reached, so there is no gRPC for Python\n'
  exit 0
}

if ((private)); then "$ROOT/scripts/up.sh" "${up[@]}" >&2; fi
if [[ -z ${GRPC_ADDR:-} ]]; then
  [[ -r $RUN_DIR/env ]] || die "nothing runs in $RUN_DIR: scripts/up.sh first, or --private, or set GRPC_ADDR"
  GRPC_ADDR=$(sed -n 's/^GRPC_ADDR=//p' "$RUN_DIR/env")
fi

mkdir "$work/stubs"
"$work/venv/bin/python" -m grpc_tools.protoc -I "$ROOT/proto" --python_out "$work/stubs" --grpc_python_out "$work/stubs" \
  interaction/v1/interaction.proto interaction/v1/admin.proto
GRPC_ADDR=$GRPC_ADDR PYTHONPATH=$work/stubs PYTHONDONTWRITEBYTECODE=1 \
  "$work/venv/bin/python" "$ROOT/scripts/test_python_client.py"
