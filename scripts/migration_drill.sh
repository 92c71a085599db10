#!/usr/bin/env bash
# Rehearses a migration from a synchronous system on private stores: creates data of the old schema, imports it, compares
# it with the old tables, then switches the write path of two servers under load, synchronous -> 1% -> 50% -> event_driven
# and back, while the old system's last rows are imported. After each step everything is verified against what was
# acknowledged, and compared with the old tables again. Prints a table.
#
#   scripts/migration_drill.sh [--likes N] [--rate R] [--users N] [--keep] [--no-build]
#
#   --likes N   operations per step (default 12000)      --rate R   per second (default 2000)
#   --users N   users of the old system (default 3000)   --keep     leaves data and logs where they are, and says where
#
# PROFILE=debug uses (and builds) debug programs. Exit code 1 if anything was lost, doubled or miscounted.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

likes=12000 rate=2000 users=3000 keep=0 build=1
while (($#)); do
  case $1 in
    --likes) likes=${2:?} && shift ;;
    --rate) rate=${2:?} && shift ;;
    --users) users=${2:?} && shift ;;
    --keep) keep=1 ;;
    --no-build) build=0 ;;
    *) die "unknown argument $1; usage: scripts/migration_drill.sh [--likes N] [--rate R] [--users N] [--keep] [--no-build]" ;;
  esac
  shift
done
for number in "$likes" "$rate" "$users"; do
  [[ $number =~ ^[1-9][0-9]{0,6}$ ]] || die "expected a number from 1 to 9999999, got $number"
done
((users <= 20000)) || die "--users: at most 20000"

RUN_DIR=$(mktemp -d)
export RUN_DIR
scripts=$(dirname "${BASH_SOURCE[0]}")
syncctl=$(programs_dir)/syncctl
work=$RUN_DIR/drill
failed=0 rows=()

# shellcheck disable=SC2317 # called by trap
clean_up() {
  local code=$?
  trap - EXIT INT TERM
  if [[ -e $RUN_DIR/lock ]]; then
    stop_part interaction-server-2 40 || true
    if ((keep)); then "$scripts/down.sh" || true; else "$scripts/down.sh" --wipe || true; fi
  fi
  if ((keep)); then say "data and logs are in $RUN_DIR"; else rm -rf "$RUN_DIR"; fi
  exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mariadb_port() { sed -n 's/^mariadb=//p' "$RUN_DIR/ports"; }
sql() { mariadb_client "$(mariadb_port)" --batch --skip-column-names --database=likes --execute "$1"; }

# row STEP RESULT DETAIL
row() {
  if [[ $2 != ok ]]; then failed=1; fi
  rows+=("$(printf '%-28s %-7s %s' "$1" "$2" "$3")")
  say "${rows[-1]}"
}

# --- the old system

# A history of likes and unlikes, some in the same second, and repetitions, the table of likes it led to, with soft deletes and
# duplicates, likes of comments, and rows that no import can understand. Rows of the second half come later.
create_legacy() {
  sql "CREATE DATABASE legacy CHARACTER SET latin1; USE legacy;
    CREATE TABLE numbers (n INT PRIMARY KEY);
    INSERT INTO numbers SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d + 100000 * g.d FROM
      (SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) a,
      (SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) b,
      (SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) c,
      (SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) e,
      (SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) f,
      (SELECT 0 d UNION SELECT 1) g
      WHERE a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d + 100000 * g.d < $users * 8;
    CREATE TABLE all_behaviors (id BIGINT PRIMARY KEY, user_id BIGINT, video_id BIGINT, behavior_type VARCHAR(32),
      behavior_time VARCHAR(40));
    INSERT INTO all_behaviors SELECT 2 * n + 1, 1 + n % $users, 1 + CRC32(n) % 50,
      IF(CRC32(n * 7) % 10 = 0, 'view', IF(CRC32(n * 3) % 3 = 0, 'unlike', 'like')),
      DATE_FORMAT('2024-01-01' + INTERVAL n DIV 40 SECOND, '%Y-%m-%d %H:%i:%s') FROM numbers;
    INSERT INTO all_behaviors SELECT id + 1, user_id, video_id, IF(behavior_type = 'like', 'unlike', 'like'), behavior_time
      FROM all_behaviors WHERE CRC32(id) % 6 = 0;
    CREATE TABLE user_behaviors LIKE all_behaviors;
    INSERT INTO user_behaviors SELECT * FROM all_behaviors WHERE id <= $users * 8;
    CREATE TABLE video_likes (id BIGINT PRIMARY KEY AUTO_INCREMENT, user_id BIGINT, video_id BIGINT,
      created_at VARCHAR(40), updated_at VARCHAR(40), deleted_at VARCHAR(40), is_deleted TINYINT);
    CREATE TABLE truth AS SELECT user_id, video_id, behavior_type = 'like' AS liked, behavior_time, id FROM (
      SELECT b.*, ROW_NUMBER() OVER (PARTITION BY user_id, video_id ORDER BY behavior_time DESC, id DESC) AS newest
      FROM all_behaviors b WHERE behavior_type IN ('like', 'unlike')) ordered WHERE newest = 1;
    INSERT INTO video_likes (user_id, video_id, created_at, deleted_at, is_deleted)
      SELECT user_id, video_id, IF(liked, behavior_time, '2023-12-31 00:00:00'), IF(liked, NULL, behavior_time), NOT liked
      FROM truth ORDER BY id;
    INSERT INTO video_likes (user_id, video_id, created_at, is_deleted)
      SELECT user_id, video_id, behavior_time, 0 FROM truth WHERE liked AND id % 9 = 0;
    CREATE TABLE comment_likes (id BIGINT PRIMARY KEY AUTO_INCREMENT, user_id BIGINT, comment_id BIGINT,
      created_at DATETIME NULL, deleted_at DATETIME NULL);
    INSERT INTO comment_likes (user_id, comment_id, created_at, deleted_at)
      SELECT 1 + n % $users, 1 + n % 37, '2024-01-01 10:00:00', IF(n % 5 = 0, '2024-01-02 10:00:00', NULL)
      FROM numbers WHERE n < $users;
    INSERT INTO video_likes (user_id, video_id, created_at, is_deleted) VALUES
      (-1, 1, '2024-01-01 00:00:00', 0), (1, 0, '2024-01-01 00:00:00', 0), (1, 1, NULL, 0), (1, 1, 'soon', 0),
      (NULL, 1, '2024-01-01 00:00:00', 0), (1, 1, '2199-01-01 00:00:00', 0);"
}

# Rows of the new tables that are not what the old ones say, both ways, and wrong counts: for users of the old system.
compare() {
  sql "SELECT
    (SELECT COUNT(*) FROM legacy.truth t LEFT JOIN video_likes l ON l.user_id = t.user_id AND l.video_id = t.video_id
      WHERE l.user_id IS NULL OR (l.deleted_at IS NULL) <> t.liked)
    + (SELECT COUNT(*) FROM video_likes l LEFT JOIN legacy.truth t ON l.user_id = t.user_id AND l.video_id = t.video_id
      WHERE l.user_id <= $users AND t.user_id IS NULL)
    + (SELECT COUNT(*) FROM legacy.comment_likes o LEFT JOIN comment_likes l
      ON l.user_id = o.user_id AND l.comment_id = o.comment_id
      WHERE l.user_id IS NULL OR (l.deleted_at IS NULL) <> (o.deleted_at IS NULL))
    + (SELECT COUNT(*) FROM like_counts c WHERE c.like_count <> IF(c.resource_type = 'video',
      (SELECT COUNT(*) FROM video_likes l WHERE l.video_id = c.resource_id AND l.deleted_at IS NULL),
      (SELECT COUNT(*) FROM comment_likes l WHERE l.comment_id = c.resource_id AND l.deleted_at IS NULL)))"
}

# import STEP ARGUMENTS...: a row of the table; rejected rows are expected, and counted.
import() {
  local step=$1 out rejected
  shift
  if out=$("$syncctl" import-legacy --from-url "${DATABASE_URL%/*}/legacy" --rejects "$work/rejects.tsv" \
    --allow-rejects "$@" 2>"$work/import.err"); then
    rejected=$(wc -l <"$work/rejects.tsv")
    row "$step" ok "$(sed -n 's/: \([0-9]* rows read\).*: \([0-9]* likes and unlikes\).*/ \1, \2/p' <<<"$out" | paste -sd';'); $rejected rejected"
  else
    row "$step" FAILED "$(tail -n 1 "$work/import.err")"
  fi
}

# shadow STEP: compares.
shadow() {
  local differences
  differences=$(compare 2>&1) || true
  if [[ $differences == 0 ]]; then row "$1" ok "no difference"; else row "$1" FAILED "$differences differences"; fi
}

# --- the new one

percent_of() {
  case $1 in
    synchronous) echo 0 ;;
    event_driven) echo 100 ;;
    *) echo "${1%\%}" ;;
  esac
}
follows() { http_get "$1" /metrics | grep -qx "write_path_event_driven_percent[^ ]* $2"; }

# switch PATH: orders it and waits until both servers follow.
switch() {
  "$syncctl" write-path set "$1" >/dev/null
  wait_for interaction-server 20 follows "$http_port" "$(percent_of "$1")"
  wait_for interaction-server-2 20 follows "$second_http" "$(percent_of "$1")"
}

origins() { sql "SELECT CONCAT(COALESCE(SUM(origin = 'journal'), 0), ' ', COALESCE(SUM(origin = 'direct'), 0)) FROM sync_events"; }

# step FROM TO: load, in whose first half the switch happens; then everything is verified.
oplogs=()
step() {
  local name="$1 -> $2" number=$((${#oplogs[@]} / 2)) log load before after detail lost=0 verified=1
  local journal_before direct_before journal_after direct_after
  log=$work/oplog.$number
  before=$(origins)
  "$syncctl" load --addr "$GRPC_ADDR,127.0.0.1:$second_grpc" --generate --likes "$likes" --rate "$rate" \
    --first-user $((users + 1)) --users 2000 --resources 50 --unlikes 0.35 --comments 0.2 --seed $((number + 1)) \
    --concurrency 64 --oplog "$log" >"$work/load.out" 2>"$work/load.err" &
  load=$!
  sleep "$(awk -v likes="$likes" -v rate="$rate" 'BEGIN { printf "%.1f", likes / rate / 3 }')"
  [[ $1 == "$2" ]] || switch "$2"
  if ((number == 2)); then import "last rows, under load" --tables user_behaviors --batch-size 200; fi
  wait "$load" || lost=1
  oplogs+=(--oplog "$log")
  "$syncctl" verify "${oplogs[@]}" --shared --wait 120 >"$work/verify.$number" 2>&1 || verified=0
  # Only now everything has come to the ledger.
  after=$(origins)
  detail=$(sed -n 's/.*acknowledged in .*: \(.*likes\/s\)/\1/p; s/.*\(p99 [0-9]*\),.*/\1 µs/p' "$work/load.out" | paste -sd' ')
  read -r journal_before direct_before <<<"$before"
  read -r journal_after direct_after <<<"$after"
  detail+="; $((journal_after - journal_before)) event-driven, $((direct_after - direct_before)) synchronous"
  if ((lost)); then
    row "$name" FAILED "load: $(cat "$work/load.out" "$work/load.err" | tail -n 2 | tr '\n' ' ')"
  elif ((verified)); then
    row "$name" ok "$detail; verified"
  else
    row "$name" FAILED "$detail; $(head -n 3 "$work/verify.$number" | tr '\n' ' ')"
  fi
}

export INTERACTION__EVENT_DRIVEN_SYNC__WRITE_PATH=synchronous INTERACTION__RATE_LIMITING__USER_ACTION__ENABLED=false
mkdir -p "$work"
"$scripts/up.sh" --stores-only >/dev/null
if ((build)); then build_programs; fi
set -a
# shellcheck disable=SC1091
source "$RUN_DIR/env"
set +a
"$syncctl" migrate >/dev/null
create_legacy
import "import, nothing running" --offline
# The later half of the history is not there yet, but the table of likes knows how it ended.
shadow "shadow compare"

"$scripts/up.sh" --no-build >/dev/null
set -a
# shellcheck disable=SC1091
source "$RUN_DIR/env"
set +a
http_port=${HTTP_ADDR##*:}
choose_port grpc_2 '' interaction-server-2
second_grpc=$PORT
choose_port http_2 '' interaction-server-2
second_http=$PORT
start_service interaction-server-2 INTERACTION__REDIS__URL="$REDIS_URL" INTERACTION__DATABASE__URL="$DATABASE_URL" \
  INTERACTION__RABBITMQ__URL="$AMQP_URL" INTERACTION__SERVICE__GRPC_ADDR="127.0.0.1:$second_grpc" \
  INTERACTION__SERVICE__HTTP_ADDR="127.0.0.1:$second_http" -- \
  "$(programs_dir)/interaction-server" --config "${CONFIG_FILE:-$ROOT/deploy/config/event_driven_sync.yml}"
wait_for interaction-server-2 60 http_get "$second_http" /health
sql "INSERT INTO legacy.user_behaviors SELECT * FROM legacy.all_behaviors WHERE id > $users * 8"

from=synchronous
for to in synchronous 1% 50% event_driven 50% 1% synchronous; do
  step "$from" "$to"
  from=$to
done
shadow "shadow compare, at the end"
out=$("$syncctl" backfill 2>&1) || failed=1
if [[ $out == *' 0 pairs changed'* ]]; then row "backfill" ok "$out"; else row "backfill" FAILED "$out"; fi

printf '\n%-28s %-7s %s\n' step result detail
printf '%s\n' "${rows[@]}"
exit "$failed"
