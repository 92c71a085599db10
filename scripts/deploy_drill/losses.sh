# Stores that lose everything under load, and what brings it back (docs/RECOVERY.md). Sourced by deploy_drill.sh.

drill_losses() {
  if ((!short)); then
    step "lost: RabbitMQ" under_load broker lose rabbitmq
    step "lost: Redis" under_load redis lose redis
    step "lost: MySQL, restored" under_load mysql restore_mysql mysql
    step "lost: Redis and RabbitMQ at once" under_load redis_broker lose_in_flight lose redis rabbitmq
    step "lost: MySQL and RabbitMQ at once, the log too, MySQL restored" with_one_word under_load mysql_broker restore_mysql mysql rabbitmq
    step "lost: all three, MySQL restored from last night" restore_last_night
  fi
  step "lost: MySQL and Redis at once, MySQL restored" under_load mysql_redis lose_in_flight restore_mysql mysql redis
  step "lost: reconcile" reconciled
}

# lose STORE...: as with their hosts; what comes in their place brings all back to health.
lose() {
  local started=$EPOCHREALTIME
  take_away "$@" || return
  put_empty "$@" || return
  detail "empty ones answer after $(seconds_since "$started") s"
  within 180 all_healthy || return
  DETAIL+=", all is well after $(seconds_since "$started") s"
}

# take_away STORE...: at one moment, and their disks with them.
take_away() {
  local name pids=()
  if [[ $MAY_LOSE == in_flight ]]; then
    within 60 few_wait || return
    MAY_LOSE=$(($(journals XLEN) + $(likes_a_second)))
  fi
  for name in "$@"; do pids+=("$(podman inspect --format '{{.State.Pid}}' "$(container "$name")")"); done
  kill -9 "${pids[@]}" || return
  for name in "$@"; do
    # Podman may be just then starting it again, or noting that it is gone, and removes nothing meanwhile.
    within 30 removed "$name" || return
    podman volume rm --force "interaction-sync_$name" >/dev/null || return
  done
}

removed() {
  local id
  id=$(container "$1")
  [[ -z $id ]] || podman rm --force --time 0 --volumes "$id"
}

few_wait() { (($(journals XLEN) < $(likes_a_second))); }

put_empty() {
  local name
  compose up --no-build --detach --no-deps "$@" || { tail -30 "$WORK/logs/compose.log" >&2; return 1; }
  for name in "$@"; do within 240 is_well "$name" || return; done
}

# lose_in_flight COMMAND...: what is published and not committed is in journal and queue, and nowhere else. So at most what waits in the
# journals then, and a second of likes, for the time between the look and the loss.
lose_in_flight() {
  MAY_LOSE=in_flight
  "$@"
}

# back_up FILE: RECOVERIES is how many it has seen.
back_up() {
  RECOVERIES=$(recoveries) || return
  COMPOSE="$PARTS/compose_exec" "$WORK/deploy/backup.sh" "$1" 2>>"$WORK/logs/compose.log"
}

# restore_mysql STORE...: a backup, likes after it, and then nothing but the backup.
restore_mysql() {
  local file=$WORK/backup.$LOADS.sql
  back_up "$file" || return
  sleep 8
  within 30 all_in_log || return
  take_away "$@" || return
  restore "$file" "$@" || return
  DETAIL="$(du -m "$file" | cut -f1) MB of backup, 8 s old; $DETAIL"
}

# What went around the redo log for a moment is in the database alone.
all_in_log() {
  local address
  for address in "$SERVER_HTTP" "$CONSUMER_HTTP"; do
    [[ $(metric "$address" interaction_redo_log_up) == 1 && $(metric "$address" interaction_redo_log_waiting_events) == 0 ]] || return
  done
}

# restore BACKUP STORE...: they are gone; MySQL comes from the backup, the others come empty, and the rest is the programs' work.
restore() {
  local started=$EPOCHREALTIME
  BACKUP=$1
  shift
  put_empty "$@" || return
  # Accounts are not in the backup of a database: the image made them anew, and this gives them their rights.
  migrate || return
  BACKUP=''
  detail "restored after $(seconds_since "$started") s"
  within 240 recovered || return
  DETAIL+=", all is well after $(seconds_since "$started") s"
}

# recovered: a run of recovery ended that is not in the backup, and no process speaks of a database that went back.
recovered() {
  local name
  (($(recoveries) > RECOVERIES)) && all_healthy || return
  for name in "${PROGRAMS_UP[@]}"; do
    podman exec "$(container "$name")" "$name" health | grep -q database_history && return 1
  done
  return 0
}

recoveries() { sql_of_root "SELECT COUNT(*) FROM consistency_runs WHERE kind = 'recovery' AND status = 'finished'"; }

# Where nobody has the earlier words of a pair: cached pairs have the last one, so here each pair has one only.
with_one_word() {
  local LOAD_OPTIONS=(--fresh-users)
  "$@"
}

# After the backup of last night there were likes, of which nobody has a copy any more; those before it, and those since the loss, must
# be there. The programs stay up.
restore_last_night() {
  local file=$WORK/night.sql wrong=0 said lost
  back_up "$file" || return
  ((++LOADS))
  send_likes day "$WORK/oplog.day" $((LOADS * 100)) || { cat "$WORK/logs/load.day.errors" >&2; return 1; }
  stores_agree day --oplog "$WORK/oplog.day" || return
  take_away mysql redis rabbitmq || return
  under_load morning restore "$file" mysql redis rabbitmq || wrong=1
  said=$DETAIL
  stores_agree day.lost --allow-loss 1000000 --oplog "$WORK/oplog.day" || wrong=1
  lost=$(lost_in day.lost)
  detail "$said; of the day between $lost pairs are lost, as they must be"
  ((lost > 0)) || { say "the day between is there: this was no loss"; wrong=1; }
  return $wrong
}

# Everything in both stores, compared by the program that users have for it.
reconciled() {
  client "$programs/syncctl" reconcile >"$WORK/logs/reconcile" 2>&1 || { tail -20 "$WORK/logs/reconcile" >&2; return 1; }
  detail "$(tail -1 "$WORK/logs/reconcile")"
}
