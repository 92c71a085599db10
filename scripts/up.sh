#!/usr/bin/env bash
# Starts everything under .run/ and waits until it is healthy. Harmless when it already runs.
#
#   scripts/up.sh [--stores-only] [--no-build]
#
# Ports are free ones unless fixed by REDIS_PORT, MARIADB_PORT, AMQP_PORT, GRPC_PORT, HTTP_PORT, CONSUMER_HTTP_PORT,
# CHECKER_HTTP_PORT. With --no-build programs that are in target/release already are taken.
# Settings of the services (INTERACTION__...) in the environment are passed on. RUN_DIR names another directory.
# PROFILE=debug builds and runs debug programs. Clients find the addresses in .run/env.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

stores_only=0 build=1
for argument in "$@"; do
  case $argument in
    --stores-only) stores_only=1 ;;
    --no-build) build=0 ;;
    *) die "unknown argument $argument; usage: scripts/up.sh [--stores-only] [--no-build]" ;;
  esac
done

mkdir -p "$RUN_DIR"
RUN_DIR=$(cd "$RUN_DIR" && pwd)
exec 9>"$RUN_DIR/lock"
flock -w 600 9 || die "another up.sh or down.sh is at work in $RUN_DIR"

need_packages
config=${CONFIG_FILE:-$ROOT/deploy/config/event_driven_sync.yml}
programs=$(programs_dir)
if ((!stores_only && build)); then
  command -v cargo >/dev/null || die "cargo is missing: install Rust from https://rustup.rs"
  # Before anything is started: a broken build then changes nothing.
  build_programs 9>&-
fi

start_redis
start_mariadb
start_rabbitmq

write_env() {
  {
    printf 'export %s=%s\n' REDIS_URL "$REDIS_URL" DATABASE_URL "$DATABASE_URL" AMQP_URL "$AMQP_URL"
    if [[ -n ${grpc_port:-} ]]; then
      printf 'export %s=127.0.0.1:%s\n' GRPC_ADDR "$grpc_port" HTTP_ADDR "$http_port" CONSUMER_HTTP_ADDR "$consumer_port" \
        CHECKER_HTTP_ADDR "$checker_port"
      printf 'export SYNCCTL_HTTP=127.0.0.1:%s,127.0.0.1:%s,127.0.0.1:%s\n' "$http_port" "$consumer_port" "$checker_port"
    fi
  } >"$RUN_DIR/env.new"
  mv "$RUN_DIR/env.new" "$RUN_DIR/env"
}

port_in_use_by() { sed -n "s/^$1=//p" "$RUN_DIR/ports"; }

if ((stores_only)); then
  if pid_of interaction-server >/dev/null; then
    grpc_port=$(port_in_use_by grpc) http_port=$(port_in_use_by http) consumer_port=$(port_in_use_by consumer_http)
    checker_port=$(port_in_use_by checker_http)
  fi
  write_env
  cat "$RUN_DIR/env"
  exit
fi

choose_port grpc "${GRPC_PORT:-}" interaction-server
grpc_port=$PORT
choose_port http "${HTTP_PORT:-}" interaction-server
http_port=$PORT
choose_port consumer_http "${CONSUMER_HTTP_PORT:-}" sync-consumer
consumer_port=$PORT
choose_port checker_http "${CHECKER_HTTP_PORT:-}" consistency-checker
checker_port=$PORT

settings=(
  INTERACTION__REDIS__URL="$REDIS_URL"
  INTERACTION__DATABASE__URL="$DATABASE_URL"
  INTERACTION__RABBITMQ__URL="$AMQP_URL"
  INTERACTION__SERVICE__GRPC_ADDR="127.0.0.1:$grpc_port"
  INTERACTION__SERVICE__HTTP_ADDR="127.0.0.1:$http_port"
  INTERACTION__SERVICE__CONSUMER_HTTP_ADDR="127.0.0.1:$consumer_port"
  INTERACTION__SERVICE__CHECKER_HTTP_ADDR="127.0.0.1:$checker_port"
)
# Part of the stamp: a changed configuration restarts the services.
settings+=(LIKES_CONFIG_STAMP="$(cksum <"$config")")
while IFS= read -r setting; do
  name=${setting%%=*}
  [[ " ${settings[*]} " == *" $name="* ]] || settings+=("$setting")
done < <(env | grep '^INTERACTION__' | sort || true)

start_service interaction-server "${settings[@]}" -- "$programs/interaction-server" --config "$config"
start_service sync-consumer "${settings[@]}" -- "$programs/sync-consumer" --config "$config"
start_service consistency-checker "${settings[@]}" -- "$programs/consistency-checker" --config "$config"
wait_for interaction-server 60 http_get "$http_port" /health
wait_for sync-consumer 60 http_get "$consumer_port" /health
wait_for consistency-checker 60 http_get "$checker_port" /health
write_env
cat "$RUN_DIR/env"
say "the page is http://127.0.0.1:$http_port/; syncctl and curl find the rest after: . ${RUN_DIR#"$PWD"/}/env"
