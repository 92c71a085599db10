#!/usr/bin/env bash
# Measures the checker on a private installation, and fails if it finds anything that nobody broke.
#
#   scripts/consistency_bench.sh [sweep] [flow] [--resources N] [--likes N] [--rate N] [--flow-rate N] [--no-build]
#
# sweep  N resources (1000000), each with a counter, a row, an entry of the history and a cached counter; then a full
#        audit: how long it takes, and what it costs redis and mariadb. --rate limits its comparisons per second.
# flow   N likes (1000000) through the whole system while the checker sweeps without a pause: 0 findings, 0 repairs,
#        and syncctl verify finds every like. --flow-rate limits likes per second (0: as fast as they are
#        answered): what the consumer does not keep up with waits, and is rightly called stuck after a minute.
# Without either, both. Data lies in a temporary directory below TMPDIR and is removed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

parts=() resources=1000000 likes=1000000 rate=1000000 flow_rate=0 up=()
while (($#)); do
  case $1 in
    sweep | flow) parts+=("$1") ;;
    --resources) resources=${2:?} && shift ;;
    --likes) likes=${2:?} && shift ;;
    --rate) rate=${2:?} && shift ;;
    --flow-rate) flow_rate=${2:?} && shift ;;
    --no-build) up=(--no-build) ;;
    *) die "unknown argument $1; usage: see the head of $0" ;;
  esac
  shift
done
if ((${#parts[@]} == 0)); then parts=(sweep flow); fi

while IFS= read -r name; do unset "$name"; done < <(compgen -e | grep -E '^INTERACTION__|_PORT$|_ADDR$|^(REDIS|DATABASE|AMQP)_URL$|^REDIS_PREFIX$')
private_installation likes-consistency

export INTERACTION__RATE_LIMITING__USER_ACTION__ENABLED=false INTERACTION__RATE_LIMITING__GLOBAL__ENABLED=false

# start: an empty installation, with the addresses in the environment.
start() {
  "$ROOT/scripts/down.sh" --wipe
  "$ROOT/scripts/up.sh" "${up[@]}" >/dev/null
  up=(--no-build)
  set -a
  # shellcheck disable=SC1091
  source "$RUN_DIR/env"
  set +a
  syncctl=${CARGO_TARGET_DIR:-$ROOT/target}/release/syncctl
  db_port=${DATABASE_URL##*:}
  db_port=${db_port%%/*}
}

sql() { mariadb_client "$db_port" --batch --skip-column-names --database=likes --execute "$1"; }

# cpu_of NAME: seconds of CPU time of a part so far.
cpu_of() {
  local pid fields
  pid=$(pid_of "$1")
  fields=$(sed 's/.*) //' "/proc/$pid/stat")
  # shellcheck disable=SC2086 # one word per field
  set -- $fields
  printf '%s\n' $(((${12} + ${13}) / $(getconf CLK_TCK)))
}

commands_of_redis() { redis-cli -u "$REDIS_URL" info stats | tr -d '\r' | sed -n 's/^total_commands_processed://p'; }
questions_of_mariadb() { sql "SHOW GLOBAL STATUS LIKE 'Questions'" | cut -f2; }

sweep() {
  # Only what is asked for shall run.
  export INTERACTION__DATA_CONSISTENCY__CHECK_INTERVAL=24h INTERACTION__DATA_CONSISTENCY__HOT_DATA_CHECK=24h
  start
  say "writing $resources resources"
  sql "INSERT INTO like_counts (resource_type, resource_id, like_count, revision, last_version, updated_at)
       SELECT 'video', seq, 1, 1, 1, NOW(6) FROM seq_1_to_$resources;
       INSERT INTO video_likes (user_id, video_id, created_at, updated_at, deleted_at, version)
       SELECT 1 + seq % 100000, seq, NOW(6), NOW(6), NULL, 1 FROM seq_1_to_$resources;
       INSERT INTO user_behaviors (event_id, user_id, video_id, behavior_type, behavior_time, version)
       SELECT UNHEX(CONCAT(LPAD(HEX(FLOOR(UNIX_TIMESTAMP(NOW(3)) * 1000)), 12, '0'), '70008', LPAD(HEX(seq), 15, '0'))),
       1 + seq % 100000, seq, 'like', NOW(6), 1 FROM seq_1_to_$resources"
  say "reading every count once, so that it is cached"
  seq 1 "$resources" | sed 's/^/video:/' | xargs -n 500 -P 2 "$syncctl" counts >/dev/null
  local redis_cpu mariadb_cpu commands questions started took
  redis_cpu=$(cpu_of redis) mariadb_cpu=$(cpu_of mariadb)
  commands=$(commands_of_redis) questions=$(questions_of_mariadb) started=$SECONDS
  "$syncctl" reconcile --max-rate "$rate" --json </dev/null
  took=$((SECONDS - started))
  printf 'full audit of %s resources at most %s comparisons/s: %s s\n' "$resources" "$rate" "$took"
  printf 'redis: %s commands, %s s of CPU; mariadb: %s statements, %s s of CPU\n' $(($(commands_of_redis) - commands)) \
    $(($(cpu_of redis) - redis_cpu)) $(($(questions_of_mariadb) - questions)) $(($(cpu_of mariadb) - mariadb_cpu))
}

flow() {
  export INTERACTION__DATA_CONSISTENCY__CHECK_INTERVAL=1s INTERACTION__DATA_CONSISTENCY__HOT_DATA_CHECK=1s
  export INTERACTION__DATA_CONSISTENCY__MAX_RATE=50000
  start
  "$syncctl" load --generate --likes "$likes" --users 100000 --resources 10000 --unlikes 0.3 --comments 0.2 --seed 11 \
    --batch 50 --concurrency 64 --rate "$flow_rate" --oplog "$work/oplog" </dev/null
  "$syncctl" verify --oplog "$work/oplog" --wait 300
  local runs findings
  runs=$(sql "SELECT GROUP_CONCAT(n) FROM (SELECT CONCAT(kind, ' ', COUNT(*), ' runs ', SUM(checked), ' compared') AS n
              FROM consistency_runs GROUP BY kind) t")
  findings=$(sql "SELECT COUNT(*), COUNT(repaired_at) FROM data_consistency_checks")
  printf 'while %s likes flowed: %s; found, repaired: %s\n' "$likes" "$runs" "$findings"
  if [[ $findings != $'0\t0' ]]; then
    sql "SELECT kind, verdict, resource_type, resource_id, details FROM data_consistency_checks ORDER BY id LIMIT 20"
    die "the checker found what nobody broke"
  fi
}

for part in "${parts[@]}"; do "$part"; done
