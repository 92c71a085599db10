# Accounts of the programs in the stores: what each is refused, and other passwords under load. Sourced by deploy_drill.sh.

# Each program's account is refused what is not its own, in every store; and none holds a secret of another.
refused_accounts() {
  local role statement said denied=0
  for role in serve consume check; do
    for statement in 'CREATE TABLE x (a INT)' 'DROP TABLE sync_meta' 'ALTER TABLE sync_meta ADD x INT' 'CREATE USER x' \
      'DELETE FROM erased_users WHERE 1 = 0' 'DELETE FROM like_counts WHERE 1 = 0' "$(of_another "$role")"; do
      database_refuses "$role" "${role}_database_url" "$statement" || return
      ((++denied))
    done
    for statement in FLUSHALL 'CONFIG GET *' 'KEYS *' 'ACL LIST' SHUTDOWN 'GET somebody-elses' \
      "$([[ $role == serve ]] && printf 'SCAN 0' || printf 'GET r:1')"; do
      # shellcheck disable=SC2086 # words
      said=$(set -f; redis_as "$role" $statement)
      [[ $said == *NOPERM* ]] || { say "$role: $statement: $said"; return 1; }
      ((++denied))
    done
  done
  # Who owns the schema owns nothing else, and is no administrator.
  for statement in 'CREATE USER x' 'CREATE DATABASE x' 'SELECT 1 FROM mysql.user' 'SET GLOBAL max_connections = 1'; do
    database_refuses owner migration_url "$statement" || return
    ((++denied))
  done
  # Nobody is the default user, whose rights Redis itself needs for its file.
  said=$(redis-cli -h "$(address_of redis)" PING 2>&1)
  [[ $said == *NOAUTH* ]] || { say "Redis: nobody: $said"; return 1; }
  ((++denied))
  # Nobody of the broker's management, and of the broker itself nothing but what is called interaction.*; servers take no likes from their queue.
  for role in serve consume; do
    said=$(management_as "$role")
    [[ $said == 401 ]] || { say "$role: the management answers $said"; return 1; }
    ((++denied))
  done
  said=$(podman exec "$(container rabbitmq)" rabbitmqctl --quiet list_permissions)
  for role in $'serve\t^interaction\\.\t^interaction\\.\t^interaction\\.(events|dead|log)$' \
    $'consume\t^interaction\\.\t^interaction\\.\t^interaction\\.'; do
    grep -qxF -- "$role" <<<"$said" || { say "RabbitMQ: no line $role in $said"; return 1; }
  done
  said=$(podman exec "$(container consistency-checker)" ls /run/secrets)
  [[ $said != *rabbitmq* && $said != *migration* ]] || { say "the checker has: $said"; return 1; }
  detail "$denied refusals; the checker has no secret of the broker"
}

# database_refuses NAME SECRET STATEMENT: to the account of this url.
database_refuses() {
  local said
  said=$(DATABASE_URL=$(secret_url "$2" "$(address_of mysql)") database_client "$3" 2>&1) && { say "$1 may $3"; return 1; }
  grep -q denied <<<"$said" || { say "$1: $3: $said"; return 1; }
}

# Something that only another program does.
of_another() {
  case $1 in
    serve) printf 'DELETE FROM sync_events WHERE 1 = 0' ;;
    consume) printf 'DELETE FROM consistency_runs WHERE 1 = 0' ;;
    check) printf 'DELETE FROM video_likes WHERE 1 = 0' ;;
  esac
}

# redis_as USER COMMAND...
redis_as() {
  local user=$1 file=redis_$1_password
  shift
  [[ $user == admin ]] && file=redis_password
  REDISCLI_AUTH=$(cat "$WORK/deploy/secrets/$file") \
    redis-cli -h "$(address_of redis)" --user "$user" --no-auth-warning "$@" 2>&1 || true
}

management_as() {
  local login
  login=$(printf '%s:%s' "$1" "$(cat "$WORK/deploy/secrets/rabbitmq_$1_password")" | base64 -w0)
  http_at "$(address_of rabbitmq):15672" /api/overview "Authorization: Basic $login" | sed -n '1s/^[^ ]* \([0-9]*\).*/\1/p'
}

pids_of_programs() {
  local name
  for name in "${PROGRAMS_UP[@]}"; do podman inspect --format '{{.State.Pid}}' "$(container "$name")"; done
}

# Other passwords for all accounts; then every connection ends, so that each program must log in with the new ones.
rotate_secrets() {
  local role pids old
  pids=$(pids_of_programs)
  old=$(cat "$WORK/deploy/secrets/redis_serve_password")
  COMPOSE="$PARTS/compose_exec" "$WORK/deploy/rotate_secrets.sh" >>"$WORK/logs/rotate.log" 2>&1 ||
    { tail "$WORK/logs/rotate.log" >&2; return 1; }
  # So long a change of a file may go unnoticed.
  sleep 2
  for role in serve consume check; do
    # shellcheck disable=SC2016 # the container's words
    podman exec "$(container mysql)" sh -c \
      'MYSQL_PWD=$(cat /run/secrets/mysql_root_password) mysql --user=root --execute="KILL USER interaction_$1"' - "$role" || return
    redis_as admin CLIENT KILL USER "$role" >/dev/null
  done
  podman exec "$(container rabbitmq)" rabbitmqctl --quiet close_all_connections --global rotated >/dev/null || return
  sleep 2
  within 60 all_healthy || return
  [[ $(REDISCLI_AUTH=$old redis-cli -h "$(address_of redis)" --user serve --no-auth-warning ping 2>&1) == *@(WRONGPASS|NOAUTH)* ]] ||
    { say "the old password of Redis is as good"; return 1; }
  [[ $(pids_of_programs) == "$pids" ]] || { say "a program was restarted"; return 1; }
  detail "8 passwords, then all connections cut; no restart"
}
