#!/usr/bin/env bash
# Gives the programs' accounts in MySQL, Redis and RabbitMQ other passwords while compose.yaml is up, and restarts nothing: programs
# read their files again within a second, and what they open from then on logs in with the new ones.
#
#   deploy/rotate_secrets.sh
#
# COMPOSE names another command than `docker compose -f compose.yaml`. Where it stops half way, it is simply run again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
umask 022
read -r -a compose <<<"${COMPOSE:-docker compose -f compose.yaml}"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
inside() { "${compose[@]}" exec -T "$@"; }

# replace OLD NEW: in every file that holds it. Written into, because a container sees no other file in its place.
replace() {
  local file text
  for file in $(grep -lF -- "$1" secrets/*); do
    text=$(sed "s/$1/$2/g" "$file")
    chmod 644 "$file"
    printf '%s\n' "$text" >"$file"
    chmod 444 "$file"
  done
}

# admin STATEMENT: of Redis.
admin() {
  # shellcheck disable=SC2016 # the container's words
  printf '%s\n' "$1" | inside redis sh -c \
    'REDISCLI_AUTH=$(sed -n "s/^user admin on >\([^ ]*\) .*/\1/p" /run/secrets/redis.conf) redis-cli --user admin -e' >/dev/null
}

for role in serve consume check; do
  # Redis knows both for a while: nobody is refused.
  old=$(cat "secrets/redis_${role}_password") new=$(random)
  admin "ACL SETUSER $role >$new"
  replace "$old" "$new"
  sleep 5
  admin "ACL SETUSER $role <$old"

  # Whoever connects between the statement and the next look at the file tries again.
  old=$(cat "secrets/mysql_${role}_password") new=$(random)
  # shellcheck disable=SC2016
  printf "ALTER USER 'interaction_%s'@'%%' IDENTIFIED BY '%s';\n" "$role" "$new" |
    inside mysql sh -c 'MYSQL_PWD=$(cat /run/secrets/mysql_root_password) mysql --user=root'
  replace "$old" "$new"

  if [[ $role != check ]]; then
    old=$(cat "secrets/rabbitmq_${role}_password") new=$(random)
    printf '%s\n' "$new" | inside rabbitmq rabbitmqctl --quiet change_password "$role" >/dev/null
    replace "$old" "$new"
  fi
  printf 'other passwords for %s\n' "$role"
done
