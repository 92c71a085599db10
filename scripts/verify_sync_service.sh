#!/usr/bin/env bash
# Smoke test of a running system: every part answers, and a like arrives everywhere. Harmless on a live one: it uses a
# new user and a new video, and takes its like back (a tombstone and two ledger rows stay).
#
#   scripts/verify_sync_service.sh
#
# Needs what scripts/up.sh started, or addresses in the environment (see probe.sh). Prints a table; exit code 1 if
# anything failed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/probe.sh"
load_addresses

PATIENCE=${PATIENCE:-20} # seconds for an event to arrive
rows=() failed=0

# report PART OK DETAIL: a line of the table; OK is 0 for good.
report() {
  local result=ok
  if (($2 != 0)); then result=FAILED failed=$((failed + 1)); fi
  rows+=("$(printf '%-36s %-7s %s' "$1" "$result" "${3%%$'\n'*}")")
}

# expect PART EXPECTED COMMAND...: the command prints exactly this, soon.
expect() {
  local part=$1 expected=$2
  shift 2
  if becomes "$PATIENCE" "$expected" "$@"; then
    report "$part" 0 "$SEEN"
  else
    report "$part" 1 "${SEEN:-no answer}, expected $expected"
  fi
}

check_stores() {
  local answer status=0
  answer=$(redis ping 2>&1) || status=$?
  if [[ $answer != PONG ]]; then status=1; fi
  report redis "$status" "${answer:-no answer}"
  status=0
  answer=$(sql 'SELECT VERSION()' 2>&1) || status=$?
  report mysql "$status" "${answer:-no answer}"
}

# check_service NAME ADDRESS [PART]: the service and, if given, what it thinks of a part.
check_service() {
  local answer status=0
  answer=$(health "$2" 2>&1) || status=$?
  [[ $answer =~ ^\{\"status\":[[:space:]]*\"ok\" ]] || status=1
  report "$1 /health" "$status" "$(summary "$answer")"
  [[ -n ${3:-} ]] || return 0
  status=0
  part_is_ok "$answer" "$3" || status=1
  report "$3, seen by $1" "$status" "$( ((status)) && printf 'not ok' || printf ok)"
}

# summary JSON: what /health says of every part, in short; any other text as it is.
summary() {
  local parts
  parts=$(grep -o '"[a-z_]*":{"status":"[a-z]*"' <<<"$1" | tr -d '"{' | sed 's/:status:/ /' | paste -sd, -) || true
  printf '%s\n' "${parts:-${1:-no answer}}"
}

check_like() {
  local user answer status=0 pattern=': liked, count 1, version ([0-9]+)$'
  user=$(fresh_id)
  use_resource video "$(fresh_id)"
  answer=$("$syncctl" like "$user" "$resource" 2>&1) || status=$?
  [[ $answer =~ $pattern ]] || status=1
  report "like by gRPC" "$status" "$answer"
  if ((status)); then return; fi
  expect "row in video_likes" "${BASH_REMATCH[1]}" row_version "$user"
  expect "row is a live like" live row "$user"
  expect "sync_events says completed" 1 ledger "$user" completed
  expect "user_behaviors has it once" 1 behaviours "$user" like
  expect "counts: gRPC redis pending sql rows" "1 1 0 1 1" all_counts
  expect "cached pair" "liked ${BASH_REMATCH[1]}" cached_pair "$user"
  expect "consistency, by the checker" consistent checked "$CHECKER_HTTP_ADDR"
  expect "consistency, by the server" consistent checked "$HTTP_ADDR"

  status=0
  answer=$("$syncctl" unlike "$user" "$resource" 2>&1) || status=$?
  report "unlike by gRPC" "$status" "$answer"
  expect "row is a tombstone" tombstone row "$user"
  expect "counts: gRPC redis pending sql rows" "0 0 0 0 0" all_counts
}

# checked ADDRESS: the verdict on the resource in use.
checked() { verdict_of "$(check_resource "$1" "$kind" "$id")"; }

check_report() {
  local answer status=0
  answer=$(http_get "${CHECKER_HTTP_ADDR##*:}" '/consistency/report?hours=24') || status=$?
  [[ $answer =~ \"checked\":([0-9]+),\"inconsistent\":([0-9]+) ]] || status=1
  report "GET /consistency/report" "$status" "${BASH_REMATCH[1]:-?} compared, ${BASH_REMATCH[2]:-?} inconsistent in 24 hours"
}

check_stores
check_service interaction-server "$HTTP_ADDR" rabbitmq
check_service sync-consumer "$CONSUMER_HTTP_ADDR" rabbitmq
check_service consistency-checker "$CHECKER_HTTP_ADDR"
check_report
expect "gRPC health" SERVING grpc_health "$GRPC_ADDR" interaction.v1.InteractionService
check_like

printf '%-36s %-7s %s\n' part result detail
printf '%s\n' "${rows[@]}"
if ((failed)); then
  printf '\n%s of %s checks failed\n' "$failed" "${#rows[@]}"
  exit 1
fi
printf '\nall %s checks are fine\n' "${#rows[@]}"
