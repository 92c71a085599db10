#!/usr/bin/env bash
# How fast likes are answered while the broker or the database is unreachable, against the same load while all is well. On
# private servers; everything acknowledged is verified at the end.
#
#   scripts/outage_latency.sh [--seconds S] [--rate LIKES_PER_SECOND]
#
# Prints p50 and p99 in milliseconds and the ratio to the normal p99. Each outage begins while the load runs and lasts
# until it has ended, so the calls that meet it first are counted. Exit code 1 if verify finds anything wrong.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seconds=20 rate=1000
while (($#)); do
  case $1 in
    --seconds) seconds=${2:?--seconds needs a number}; shift ;;
    --rate) rate=${2:?--rate needs a number}; shift ;;
    *) die "unknown argument $1; usage: scripts/outage_latency.sh [--seconds S] [--rate LIKES_PER_SECOND]" ;;
  esac
  shift
done

private_installation likes-outage

for limit in USER_ACTION IP GLOBAL; do export "INTERACTION__RATE_LIMITING__${limit}__ENABLED=false"; done
"$ROOT/scripts/up.sh" >/dev/null
set -a
# shellcheck disable=SC1091
source "$RUN_DIR/env"
set +a
syncctl=${CARGO_TARGET_DIR:-$ROOT/target}/release/syncctl

oplogs=() seed=0
# run NAME [COMMAND...]: one load; the command strikes a second after its beginning.
run() {
  local name=$1 pid
  shift
  seed=$((seed + 1))
  oplogs+=(--oplog "$work/oplog-$seed")
  "$syncctl" load --generate --duration "$seconds" --rate "$rate" --users 5000 --resources 500 --unlikes 0.3 \
    --concurrency 256 --seed "$seed" --oplog "$work/oplog-$seed" --json >"$work/$name.json" &
  pid=$!
  sleep 1
  if (($#)); then "$@"; fi
  wait "$pid"
}

# number FILE KEY: a number of a load's JSON.
number() { grep -o "\"$2\":[0-9.]*" "$work/$1.json" | head -n 1 | cut -d : -f 2; }

restart() {
  local store=$1
  "start_$store"
  wait_for interaction-server 60 http_get "${HTTP_ADDR##*:}" /health
  wait_for sync-consumer 60 http_get "${CONSUMER_HTTP_ADDR##*:}" /health
  "$syncctl" verify "${oplogs[@]}" >/dev/null || die "not right after $store was unreachable"
}

strike() { stop_part "$1" 0 2>/dev/null; }

run warm-up
run normal
run rabbitmq strike rabbitmq
restart rabbitmq
run mariadb strike mariadb
restart mariadb

normal=$(number normal p99)
printf '%-22s %10s %10s %10s %12s\n' 'unreachable' 'likes/s' 'p50 ms' 'p99 ms' 'p99 / normal'
for name in normal rabbitmq mariadb; do
  awk -v name="$name" -v rate="$(number "$name" likes_per_s)" -v p50="$(number "$name" p50)" -v p99="$(number "$name" p99)" \
    -v normal="$normal" 'BEGIN { printf "%-22s %10.0f %10.2f %10.2f %12.2f\n", name == "normal" ? "nothing" : name, rate, p50 / 1000, p99 / 1000, p99 / normal }'
done
"$syncctl" verify "${oplogs[@]}" | tail -n 1
