#!/usr/bin/env bash
# Plants a fault into the system that scripts/up.sh started, for a team that practises with docs/OPERATING.md; not for likes that
# matter to anybody.
#
#   scripts/drill.sh dead     the database refuses every like of video 13, and three users like it
#   scripts/drill.sh frozen   the process of MariaDB stands still
#   scripts/drill.sh count    the cached count of video 1 and the stored count of video 2 are wrong
#   scripts/drill.sh over     takes the trigger and the standstill back; dead events and counts are left to who practises
#
# RUN_DIR and PROFILE are those of up.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[[ $# -eq 1 ]] || die "usage: scripts/drill.sh dead|frozen|count|over"
[[ -f $RUN_DIR/env ]] || die "nothing runs in $RUN_DIR: scripts/up.sh starts it"
# shellcheck source=/dev/null
source "$RUN_DIR/env"
port=$(sed -n 's/^mariadb=//p' "$RUN_DIR/ports")

# One statement: a trigger has semicolons of its own.
sql() { mariadb_client "$port" --delimiter=// --database=likes --batch --skip-column-names --execute "$1"; }

# like FIRST LAST VIDEO: each of these users.
like() {
  local user
  for ((user = $1; user <= $2; user++)); do "$(programs_dir)/syncctl" like "$user" "video:$3" >/dev/null; done
}

# arrived VIDEO: waits until its likes are in the database and out of the journals, so that nothing corrects what is planted.
arrived() {
  local step
  for ((step = 0; step < 300; step++)); do
    [[ $("$(programs_dir)/syncctl" check "video:$1" -o tsv || true) == *$'\tconsistent\t'* ]] && return
    sleep 0.2
  done
  die "the likes of video $1 do not arrive"
}

# signal_mariadb NAME: to its process.
signal_mariadb() {
  local pid
  pid=$(pid_of mariadb) || die "MariaDB does not run in $RUN_DIR"
  kill "-$1" "$pid"
}

case $1 in
  dead)
    sql "CREATE TRIGGER IF NOT EXISTS no_13 BEFORE INSERT ON video_likes FOR EACH ROW IF NEW.video_id = 13 THEN
         SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'video 13 is archived'; END IF"
    like 1001 1003 13
    ;;
  frozen) signal_mariadb STOP ;;
  count)
    like 50 79 1
    like 50 79 2
    for video in 1 2; do arrived "$video"; done
    sql "UPDATE like_counts SET like_count = like_count + 40 WHERE resource_type = 'video' AND resource_id = 2"
    redis-cli -u "$REDIS_URL" --scan --pattern '*c:v1' | while read -r key; do
      redis-cli -u "$REDIS_URL" HSET "$key" n 999 >/dev/null
    done
    ;;
  over)
    signal_mariadb CONT
    sql "DROP TRIGGER IF EXISTS no_13"
    ;;
  *) die "usage: scripts/drill.sh dead|frozen|count|over" ;;
esac
[[ $1 == over ]] || say "planted: $1"
