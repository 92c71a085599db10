#!/usr/bin/env bash
# Makes passwords and tokens for compose.yaml, once: files under deploy/secrets/, kept out of git and out of the image.
#
#   deploy/make_secrets.sh
#
# The directory is closed to others; the files in it are readable, because containers read them as users of their own.
# What exists is left alone: databases keep the passwords they were created with.
set -euo pipefail
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

# Hexadecimal: needs no escaping in a url.
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

put mysql_root_password "$(random)"
put mysql_password "$(random)"
put mysql_serve_password "$(random)"
put redis_password "$(random)"
put rabbitmq_password "$(random)"
put grafana_password "$(random)"
# For Prometheus (metrics), services that like (write), and operators.
put prometheus_token "$(random)"
put client_token "$(random)"
put operator_token "$(random)"

mysql=$(cat secrets/mysql_password) redis=$(cat secrets/redis_password) rabbitmq=$(cat secrets/rabbitmq_password)
put tokens "prometheus metrics $(cat secrets/prometheus_token)
client write $(cat secrets/client_token)
operator operate $(cat secrets/operator_token)"
put redis.conf "requirepass $redis"
put rabbitmq.conf "default_user = interaction
default_pass = $rabbitmq"
# The owner of the schema, and the account of the programs (mysql/10-accounts.sh).
put migration_url "mysql://interaction:$mysql@mysql:3306/interaction"
put database_url "mysql://interaction_serve:$(cat secrets/mysql_serve_password)@mysql:3306/interaction"
put redis_url "redis://:$redis@redis:6379/0"
put rabbitmq_url "amqp://interaction:$rabbitmq@rabbitmq:5672/%2f"
