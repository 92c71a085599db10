# Stores that lose everything under load, and what brings it back (docs/RECOVERY.md). Sourced by deploy_drill.sh.

drill_losses() {
  step "losses: RabbitMQ and its disk" under_load broker lose rabbitmq
  step "losses: Redis and its disk" under_load redis lose redis
  step "losses: MySQL, restored from a backup" under_load mysql restore_mysql
  step "losses: Redis and RabbitMQ at once" under_load both lose redis rabbitmq
  step "losses: verify_sync_service.sh" verified
}

# lose STORE...: as with their hosts; what comes in their place brings all back to health.
lose() {
  local started=$EPOCHREALTIME
  replace_by_empty "$@" || return
  detail "empty ones answer after $(seconds_since "$started") s"
  back_to_health "$started"
}

replace_by_empty() {
  local name
  for name in "$@"; do
    kill -9 "$(podman inspect --format '{{.State.Pid}}' "$(container "$name")")"
    podman rm --force --time 0 --volumes "$(container "$name")" >/dev/null || return
    podman volume rm --force "interaction-sync_$name" >/dev/null || return
  done
  compose up --no-build --detach --no-deps "$@" || { tail -30 "$WORK/logs/compose.log" >&2; return 1; }
  for name in "$@"; do within 180 is_well "$name" || return; done
}

back_to_health() {
  within 180 all_healthy || return
  within 180 recovered || return
  DETAIL+=", all is well after $(seconds_since "$1") s"
}

# No process speaks of a database that went back.
recovered() {
  local name
  for name in "${PROGRAMS_UP[@]}"; do
    podman exec "$(container "$name")" "$name" health | grep -q database_history && return 1
  done
  return 0
}

seconds_since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }'; }

# shellcheck disable=SC2016 # the container's words
as_root_of_mysql() {
  podman exec --interactive "$(container mysql)" sh -c \
    'export MYSQL_PWD=$(cat /run/secrets/mysql_root_password); exec "$@"' - "$@"
}

# A backup, likes after it, and then nothing but the backup. The redo log and cached pairs have the rest.
restore_mysql() {
  local backup=$WORK/backup.sql started
  as_root_of_mysql mysqldump --user=root --single-transaction --routines interaction >"$backup" || return
  sleep 8
  started=$EPOCHREALTIME
  replace_by_empty mysql || return
  as_root_of_mysql mysql --user=root interaction <"$backup" || return
  # Accounts are not in the backup of a database: they were made anew, and this gives them their rights.
  migrate || return
  detail "$(du -m "$backup" | cut -f1) MB of backup, 8 s old; restored after $(seconds_since "$started") s"
  back_to_health "$started"
}
