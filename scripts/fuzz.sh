#!/usr/bin/env bash
# Bad inputs, many of them: schemathesis on the ops API by its own OpenAPI document, then random and malformed gRPC, HTTP/2,
# HTTP and AMQP from a seed (crates/interaction-server/tests/it/malformed.rs). Prints what became of them.
#
#   scripts/fuzz.sh [--inputs N] [--seed N] [--examples N] [--no-schemathesis]
#
#   --inputs N    random and malformed inputs (default 100000; a few minutes)   --seed N   which ones (default 1)
#   --examples N  requests that schemathesis makes of each operation (default 300)
#
# Everything runs on private stores, with debug programs unless PROFILE=release. Installs python3-venv if missing and takes
# schemathesis from PyPI into a temporary directory; if PyPI cannot be reached that part is "not run". Exit code 1 if
# anything answered with a server error, panicked, grew, or wrote what was no like.
export PROFILE=${PROFILE:-debug}
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

inputs=100000 seed=1 examples=300 schemathesis=1
while (($#)); do
  case $1 in
    --inputs) inputs=${2:?} && shift ;;
    --seed) seed=${2:?} && shift ;;
    --examples) examples=${2:?} && shift ;;
    --no-schemathesis) schemathesis=0 ;;
    *) die "unknown argument $1; usage: scripts/fuzz.sh [--inputs N] [--seed N] [--examples N] [--no-schemathesis]" ;;
  esac
  shift
done
for number in "$inputs" "$seed" "$examples"; do
  [[ $number =~ ^[1-9][0-9]{0,8}$ ]] || die "expected a number from 1 to 999999999, got $number"
done

private_installation likes-fuzz
result=0

by_document() {
  if ! python_venv "$work/venv" schemathesis==4.32.5; then
    printf 'not run: PyPI cannot be reached, so there is no schemathesis\n'
    return
  fi
  "$ROOT/scripts/up.sh" >&2
  local http
  http=$(sed -n 's/^HTTP_ADDR=//p' "$RUN_DIR/env")
  # It leaves a directory where it runs.
  (cd "$work" && "$work/venv/bin/schemathesis" run "http://$http/openapi.json" --seed "$seed" --max-examples "$examples" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    --generation-database none --no-color) || result=1
  if grep -q panicked "$RUN_DIR"/logs/*.log; then
    grep panicked "$RUN_DIR"/logs/*.log >&2
    result=1
  fi
  http_get "${http##*:}" /health >/dev/null || { say "the server is not well"; result=1; }
  "$ROOT/scripts/down.sh" --wipe >&2
}

if ((schemathesis)); then by_document; fi
MALFORMED_INPUTS=$inputs MALFORMED_SEED=$seed cargo test --locked --workspace --test it -- --nocapture malformed:: || result=1
exit "$result"
