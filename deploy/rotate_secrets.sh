#!/usr/bin/env bash
# Gives the programs' accounts in MySQL, Redis and RabbitMQ other passwords while compose.yaml is up, and restarts nothing: programs
# read their files again within a second, and what they open from then on logs in with the new ones.
#
#   deploy/rotate_secrets.sh
#
# COMPOSE names another command than `docker compose -f compose.yaml`. Where it stops half way, it is simply run again.
set -euo pipefail
(($# == 0)) || { printf 'usage: %s\n' "$0" >&2; exit 64; }
cd "$(dirname "${BASH_SOURCE[0]}")"
umask 022
read -r -a compose <<<"${COMPOSE:-docker compose -f compose.yaml}"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
inside() { "${compose[@]}" exec -T "$@"; }

# write FILE TEXT: into it, because a container sees no other file in its place. What a run that ended here wrote half is there whole.
write() {
  printf '%s\n' "$2" >"$1.part"
  mv "$1.part" "$1.new"
  finish_writing "$1.new"
}
finish_writing() {
  chmod 644 "${1%.new}"
  cat "$1" >"${1%.new}"
  chmod 444 "${1%.new}"
  rm -f "$1"
}

# next NAME: its next password, which a run that stopped half way may have given to the store already.
next() {
  if [[ ! -s secrets/$1.next ]]; then
    random >"secrets/$1.part"
    mv "secrets/$1.part" "secrets/$1.next"
  fi
  cat "secrets/$1.next"
}

# replace NAME: the next password in every file that holds the one of before; last where that one itself is.
replace() {
  local file text old new
  old=$(cat "secrets/$1") new=$(cat "secrets/$1.next")
  for file in secrets/*; do
    case $file in "secrets/$1" | *.next | *.new) continue ;; esac
    text=$(cat "$file")
    if [[ $text == *"$old"* ]]; then write "$file" "${text//"$old"/$new}"; fi
  done
  write "secrets/$1" "$new"
  rm "secrets/$1.next"
}

# admin STATEMENT: of Redis.
admin() {
  # shellcheck disable=SC2016 # the container's words
  printf '%s\n' "$1" | inside redis sh -c \
    'REDISCLI_AUTH=$(sed -n "s/^user admin on >\([^ ]*\) .*/\1/p" /run/secrets/redis.conf) redis-cli --user admin -e' >/dev/null
}

# Of a run that was killed.
rm -f secrets/*.part
for file in secrets/*.new; do
  if [[ -e $file ]]; then finish_writing "$file"; fi
done

for role in serve consume check; do
  # Redis knows both for a while: nobody is refused. Then this one alone, whatever a run before left.
  new=$(next "redis_${role}_password")
  admin "ACL SETUSER $role >$new"
  replace "redis_${role}_password"
  sleep 5
  admin "ACL SETUSER $role resetpass >$new"

  # Whoever connects between the statement and the next look at the file tries again.
  new=$(next "mysql_${role}_password")
  # shellcheck disable=SC2016
  printf "ALTER USER 'interaction_%s'@'%%' IDENTIFIED BY '%s';\n" "$role" "$new" |
    inside mysql sh -c 'MYSQL_PWD=$(cat /run/secrets/mysql_root_password) mysql --user=root'
  replace "mysql_${role}_password"

  if [[ $role != check ]]; then
    new=$(next "rabbitmq_${role}_password")
    printf '%s\n' "$new" | inside rabbitmq rabbitmqctl --quiet change_password "$role" >/dev/null
    replace "rabbitmq_${role}_password"
  fi
  printf 'other passwords for %s\n' "$role"
done
