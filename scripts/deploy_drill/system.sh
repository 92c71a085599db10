# A running system looked at from outside, whoever started it. Sourced by deploy_drill.sh.

# Addresses of what runs, for clients and scripts; TOKEN is an operator's.
GRPC='' SERVER_HTTP='' CONSUMER_HTTP='' CHECKER_HTTP='' STORES_AT=''

operator_token() { cat "$WORK/deploy/secrets/operator_token"; }

# secret_url NAME HOST: the url in a secret, with the address of a host in place of its name.
secret_url() { sed -E "s#@([a-z-]+):#@$2:#" "$WORK/deploy/secrets/$1"; }

client() {
  env TOKEN="$(operator_token)" GRPC_ADDR="$GRPC" HTTP_ADDR="$SERVER_HTTP" CONSUMER_HTTP_ADDR="$CONSUMER_HTTP" \
    CHECKER_HTTP_ADDR="$CHECKER_HTTP" SYNCCTL="$programs/syncctl" PATIENCE=60 \
    SYNCCTL_HTTP="$SERVER_HTTP,$CONSUMER_HTTP,$CHECKER_HTTP" \
    DATABASE_URL="$(secret_url "${ACCOUNT:-check}_database_url" "$(address_of mysql)")" \
    REDIS_URL="$(secret_url "${ACCOUNT:-check}_redis_url" "$(address_of redis)")" "$@"
}

# health_says ADDRESS: 200 from /health.
health_says() { http_at "$1" /health | grep -q '^HTTP/1.1 200'; }

# http_at ADDRESS PATH [HEADER]: the answer with its head.
http_at() (
  exec 3<>"/dev/tcp/${1%:*}/${1##*:}" || exit
  printf 'GET %s HTTP/1.1\r\nHost: %s\r\n%sConnection: close\r\n\r\n' "$2" "$1" "${3:+$3$'\r\n'}" >&3
  timeout 10 cat <&3 | tr -d '\0'
)

all_healthy() { health_says "$SERVER_HTTP" && health_says "$CONSUMER_HTTP" && health_says "$CHECKER_HTTP"; }

verified() {
  within 90 all_healthy || return
  # Built together with the programs, it need not be built again.
  local verify=("$ROOT/scripts/verify_sync_service.sh")
  if [[ -x $programs/xtask ]]; then verify=("$programs/xtask" verify-sync-service); fi
  local attempt
  # Its calls have deadlines of a few seconds, which a busy machine can miss.
  for attempt in 1 2 3; do
    if client "${verify[@]}" >"$WORK/logs/verify.log" 2>&1; then
      detail "$(tail -1 "$WORK/logs/verify.log")"
    elif only_late; then
      detail "$(tail -1 "$WORK/logs/verify.log"): health still says that likes waited"
    else
      continue
    fi
    if ((attempt > 1)); then DETAIL+=", attempt $attempt"; fi
    return
  done
  tail -40 "$WORK/logs/verify.log" >&2
  return 1
}

# only_late: nothing is wrong but that likes had to wait a moment ago, as they must while programs are killed and replaced: health
# says so for minutes.
only_late() {
  local failed
  failed=$(grep ' FAILED ' "$WORK/logs/verify.log") || return
  ! grep -qv ' /health ' <<<"$failed" && ! grep -q ' down' <<<"$failed" &&
    ! grep -oE '[a-z_]+ degraded' <<<"$failed" | grep -qvxE '(commit_lag|like_latency|late_events) degraded'
}

# under_load NAME COMMAND...: likes meanwhile, which must all be there afterwards, and those of all steps before. A command that takes
# away what some have no copy of says how many pairs that may be (MAY_LOSE); those likes are then not asked for again.
under_load() {
  local name=$1 load wrong=0 oplog said own=()
  shift
  ((++LOADS))
  MAY_LOSE=''
  rm -f "$WORK/enough"
  load_until_enough "$name" &
  load=$!
  sleep 2
  "$@" || wrong=1
  touch "$WORK/enough"
  wait $load || { say "the load failed"; cat "$WORK/logs/load.$name".*.errors >&2; wrong=1; }
  for oplog in "$WORK/oplog.$LOADS".*; do own+=(--oplog "$oplog"); done
  said=$(of_load "$WORK/logs/load.$name".*.json) || wrong=1
  if [[ -z $MAY_LOSE ]]; then OPLOGS+=("${own[@]}"); fi
  if ((${#OPLOGS[@]})); then
    stores_agree "$name" "${OPLOGS[@]}" || wrong=1
    said+="; $(tail -1 "$WORK/logs/verify.$name")"
  fi
  if [[ -n $MAY_LOSE ]]; then
    stores_agree "$name.lossy" --allow-loss "$MAY_LOSE" "${own[@]}" || wrong=1
    said+="; $(lost_in "$name.lossy") pairs lost, of at most $MAY_LOSE"
  fi
  detail "${DETAIL:+$DETAIL; }$said"
  return $wrong
}
LOADS=0 OPLOGS=() MAY_LOSE=''

# stores_agree NAME OPTIONS...: with what these logs say.
stores_agree() {
  local name=$1
  shift
  client "$programs/syncctl" verify --shared --wait 120 "$@" >"$WORK/logs/verify.$name" 2>&1 || { tail -40 "$WORK/logs/verify.$name" >&2; return 1; }
}

lost_in() { awk '/^ *lost, allowed / { lost = $NF } END { print lost + 0 }' "$WORK/logs/verify.$1"; }

# One run of a few seconds after the other, each of users of its own.
load_until_enough() {
  local part=0
  until [[ -e $WORK/enough ]]; do
    ((++part))
    send_likes "$1.$part" "$WORK/oplog.$LOADS.$part" $((LOADS * 100 + part)) || return
  done
}

# send_likes NAME OPLOG NUMBER: five seconds of them, that no other number says. While servers are replaced nobody may answer at all: then
# it has not begun, and begins again.
send_likes() {
  local end=$((SECONDS + 300))
  until send_likes_once "$@"; do
    (($(wc -l <"$2") < 2)) && grep -q '^syncctl: UNREACHABLE: could not connect' "$WORK/logs/load.$1.errors" && ((SECONDS < end)) || return
    sleep 0.3
  done
}

send_likes_once() {
  local rate
  rate=$(likes_a_second)
  client "$programs/syncctl" load --generate --likes $((rate * 5)) --rate "$rate" "${LOAD_OPTIONS[@]}" --resources 50 \
    --comments 0.2 --concurrency 32 --retry-for 300 --first-user $(($3 * 5000)) --seed "$3" --json --oplog "$2" \
    >"$WORK/logs/load.$1.json" 2>"$WORK/logs/load.$1.errors"
}
LOAD_OPTIONS=(--users 2000 --unlikes 0.3)

likes_a_second() { if ((short)); then echo 300; else echo 500; fi; }

# of_load FILE...: what loads say of themselves, in short. Calls without an answer were repeated; one that was refused for good, or has
# no answer at all, is a failure.
of_load() {
  python3 - "$@" <<'PY'
import json, sys
runs = [json.load(open(name)) for name in sys.argv[1:]]
count = lambda value: sum(value.values()) if isinstance(value, dict) else value
total = {name: sum(count(run[name]) for run in runs) for name in ("acknowledged", "retried", "failed", "unknown")}
print("{acknowledged:,} likes, {retried} repeated, {failed} failed".format(**total))
sys.exit(total["failed"] + total["unknown"] > 0)
PY
}

# metric ADDRESS NAME: of a process; of one with labels the first.
metric() {
  http_at "$1" /metrics "Authorization: Bearer $(operator_token)" | sed -n "s/^$2\({[^}]*}\)\? //p" | head -1
}

# journals COMMAND [OPTIONS]: summed over all shards.
journals() {
  local shard sum=0 one
  for ((shard = 0; shard < 16; shard++)); do
    # shellcheck disable=SC2086 # words
    one=$(redis_as admin $1 "{s$shard}:j" ${2:-})
    sum=$((sum + ${one:-0}))
  done
  printf '%s\n' $sum
}
nothing_waits() { [[ $(journals XLEN) == 0 ]]; }

# database_client STATEMENT: with the account of DATABASE_URL.
database_client() {
  [[ $DATABASE_URL =~ ^mysql://([^:]+):([^@]+)@([^:]+):([0-9]+)/(.+)$ ]] || return 2
  MYSQL_PWD=${BASH_REMATCH[2]} mariadb --no-defaults --protocol=TCP --skip-ssl --host="${BASH_REMATCH[3]}" \
    --port="${BASH_REMATCH[4]}" --user="${BASH_REMATCH[1]}" --database="${BASH_REMATCH[5]}" --execute "$1"
}
