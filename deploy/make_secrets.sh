#!/usr/bin/env bash
# Makes passwords and tokens for compose.yaml, once: files under deploy/secrets/, kept out of git and out of the image.
#
#   deploy/make_secrets.sh
#
# The directory is closed to others; the files in it are readable, because containers read them as users of their own.
# What exists is left alone: databases keep the passwords they were created with.
set -euo pipefail
(($# == 0)) || { printf 'usage: %s\n' "$0" >&2; exit 64; }
cd "$(dirname "${BASH_SOURCE[0]}")"
umask 022
mkdir -p secrets
chmod 700 secrets

# put NAME TEXT: unless it is there.
put() {
  [[ -e secrets/$1 ]] && return
  printf '%s\n' "$2" >"secrets/$1.new"
  chmod 444 "secrets/$1.new"
  mv "secrets/$1.new" "secrets/$1"
  printf 'made secrets/%s\n' "$1"
}

# made_of NAME TEXT: the same of what is made of other files; who has it from another release learns that it says something else.
made_of() {
  if [[ -e secrets/$1 && $(cat "secrets/$1") != "$2" ]]; then
    printf 'warning: secrets/%s is not what this release makes: compare it with %s\n' "$1" "${0##*/}" >&2
  fi
  put "$1" "$2"
}

# Hexadecimal: needs no escaping in a url.
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

put mysql_root_password "$(random)"
put mysql_password "$(random)"
put redis_password "$(random)"
put rabbitmq_password "$(random)"
# Of the programs: server, consumer, checker.
put mysql_serve_password "$(random)"
put mysql_consume_password "$(random)"
put mysql_check_password "$(random)"
put redis_serve_password "$(random)"
put redis_consume_password "$(random)"
put redis_check_password "$(random)"
put rabbitmq_serve_password "$(random)"
put rabbitmq_consume_password "$(random)"
put grafana_password "$(random)"
# For Prometheus (metrics), services that like (write), and operators.
put prometheus_token "$(random)"
put client_token "$(random)"
put operator_token "$(random)"
put tokens "prometheus metrics $(cat secrets/prometheus_token)
client write $(cat secrets/client_token)
operator operate $(cat secrets/operator_token)"

# Redis: an administrator, one who may only ask whether it lives, and the programs. Each of them uses these commands, and the keys
# of likes; the limits of users (r:) are the server's alone, and only consumers and checkers list keys (scan).
commands='-@all +evalsha +script|load +time +wait +info +ping +role +multi +exec +get +set +mget +del +exists +expire +pexpire +pttl +persist +incr +hget +hset +hsetnx +hmget +hgetall +hdel +hlen +xadd +xdel +xlen +xrange +xinfo|stream'
keys='resetkeys ~{s[0-9]*}:* ~{l:*}:* ~meta'
# The default user is off, so nobody is it. But Redis reads its own append-only file as that user, and leaves out all that scripts wrote
# if that user may not (redis/redis#14541, mended in new ones only): so it keeps its rights.
made_of redis.conf "user default off resetpass ~* &* +@all
user admin on >$(cat secrets/redis_password) ~* &* +@all
user probe on nopass resetkeys -@all +ping
user serve on >$(cat secrets/redis_serve_password) $keys ~r:* $commands
user consume on >$(cat secrets/redis_consume_password) $keys $commands +scan +hscan
user check on >$(cat secrets/redis_check_password) $keys $commands +scan"

# RabbitMQ: an administrator, servers, who publish and take no likes from their queue (they look whether the redo log is one), and
# consumers. Checkers have no account there.
user() { printf '{"name": "%s", "password": "%s", "tags": [%s]}' "$1" "$2" "$3"; }
may() { printf '{"user": "%s", "vhost": "/", "configure": "%s", "write": "%s", "read": "%s"}' "$@"; }
ours='^interaction\\.'
made_of rabbitmq_definitions.json "{
  \"vhosts\": [{\"name\": \"/\"}],
  \"users\": [
    $(user interaction "$(cat secrets/rabbitmq_password)" '"administrator"'),
    $(user serve "$(cat secrets/rabbitmq_serve_password)" ''),
    $(user consume "$(cat secrets/rabbitmq_consume_password)" '')
  ],
  \"permissions\": [
    $(may interaction '.*' '.*' '.*'),
    $(may serve "$ours" "$ours" '^interaction\\.(events|dead|log)$'),
    $(may consume "$ours" "$ours" "$ours")
  ]
}"

# The owner of the schema, and the accounts of the programs (mysql/10-accounts.sh).
made_of migration_url "mysql://interaction:$(cat secrets/mysql_password)@mysql:3306/interaction"
database() { printf 'mysql://interaction_%s:%s@mysql:3306/interaction' "$1" "$(cat "secrets/mysql_$1_password")"; }
redis() { printf 'redis://%s:%s@redis:6379/0' "$1" "$(cat "secrets/redis_$1_password")"; }
rabbitmq() { printf 'amqp://%s:%s@rabbitmq:5672/%%2f' "$1" "$(cat "secrets/rabbitmq_$1_password")"; }
made_of serve_database_url "$(database serve)"
made_of consume_database_url "$(database consume)"
made_of check_database_url "$(database check)"
made_of serve_redis_url "$(redis serve)"
made_of consume_redis_url "$(redis consume)"
made_of check_redis_url "$(redis check)"
made_of serve_rabbitmq_url "$(rabbitmq serve)"
made_of consume_rabbitmq_url "$(rabbitmq consume)"
