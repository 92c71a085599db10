# compose.yaml by podman-compose. Sourced by deploy_drill.sh.

PROGRAMS_UP=(sync-consumer consistency-checker interaction-server)
STORES_UP=(mysql redis rabbitmq prometheus)
TAG=old COMPOSE=compose.yaml BACKUP=''

# Images of stores by their digests, as pin_images.sh finds them; MySQL from a backup where there is one to be restored.
compose() {
  (cd "$WORK/deploy" && env IMAGE_TAG="$TAG" GRPC_PORTS="$grpc_port" HTTP_PORTS="$http_port" BACKUP="$BACKUP" \
    CHECKER_HTTP_PORTS="$checker_port" RABBITMQ_UI_PORT="$rabbitmq_port" PROMETHEUS_PORT="$prometheus_port" \
    "$VENV/bin/podman-compose" --file "$COMPOSE" --file compose.images.yaml ${BACKUP:+--file compose.restore.yaml} "$@") \
    >>"$WORK/logs/compose.log" 2>&1
}

container() { podman ps --all --quiet --filter "label=com.docker.compose.service=$1" | head -1; }
address_of() { podman inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(container "$1")"; }
is_well() { podman healthcheck run "$(container "$1")"; }

drill_compose() {
  if ((short)); then STORES_UP=(mysql redis rabbitmq); fi
  RUN_DIR=$WORK/run-dir && mkdir -p "$RUN_DIR"
  local port
  for port in grpc http checker rabbitmq prometheus; do
    choose_port "$port" ''
    printf -v "${port}_port" '%s' "$PORT"
  done
  keep_configuration
  step "compose: images by digest" pin_images
  step "compose: start" start_compose
  step "compose: verify_sync_service.sh" verified
  if ((!short)); then step "compose: Prometheus scrapes all" scraped; fi
  step "compose: killed -9 under load" under_load killed kill_programs
  step "compose: each store killed -9 under load" under_load stores kill_stores
  step "compose: upgrade under load" under_load upgrade roll_to new
  step "compose: what a container may do" confined
  step "compose: each account is refused something" refused_accounts
  step "compose: other passwords under load" under_load rotate rotate_secrets
  if ((!same)); then
    step "compose: back to the release before" under_load back roll_to old
    step "compose: and forward again" under_load forward roll_to new
  fi
  step "compose: verify_sync_service.sh" verified
  drill_losses
  if ((!short)); then drill_sizes; fi
  # The last: what had to wait shows in the health for five minutes (commit_lag).
  step "compose: health without Redis" without_redis
  step "compose: programs stop" stop_programs
  if ((short)); then step "compose: down" compose down --volumes; fi
}

# Each release reads its own configuration: the older one knows no key of the newer. Nor does its `migrate` know the accounts of
# programs, which have the rights that they are made with until the newer one gives them less.
keep_configuration() {
  mv "$WORK/deploy/config/event_driven_sync.yml" "$WORK/new.yml"
  cp "$WORK/new.yml" "$WORK/old.yml"
  if ((!same)); then
    if [[ -s $previous/event_driven_sync.yml ]]; then cp "$previous/event_driven_sync.yml" "$WORK/old.yml"; fi
    sed 's/\(command: \[syncctl, migrate\), --grant, .*/\1]/' "$WORK/deploy/compose.yaml" >"$WORK/deploy/compose.old.yaml"
    COMPOSE=compose.old.yaml
  fi
  cp "$WORK/old.yml" "$WORK/deploy/config/event_driven_sync.yml"
}

pin_images() {
  DOCKER=podman "$WORK/deploy/pin_images.sh" --no-pull 2>>"$WORK/logs/compose.log" || return
  detail "$(grep -c '^    image: .*@sha256:' "$WORK/deploy/compose.images.yaml") images of stores"
}

# The schema of a release, by the account that owns it.
migrate() {
  compose up --no-build --detach --no-deps migrate || return
  within 60 migrate_ended || { podman logs "$(container migrate)" >&2; return 1; }
  podman rm "$(container migrate)" >/dev/null
}

migrations() { sql_of_root 'SELECT COUNT(*) FROM seaql_migrations'; }

# shellcheck disable=SC2016 # the container's words
sql_of_root() {
  podman exec "$(container mysql)" sh -c \
    'MYSQL_PWD=$(cat /run/secrets/mysql_root_password) mysql --user=root --skip-column-names "$MYSQL_DATABASE" --execute="$1"' - "$1"
}

migrate_ended() { [[ $(podman inspect --format '{{.State.Status}} {{.State.ExitCode}}' "$(container migrate)") == "exited 0" ]]; }

start_compose() {
  compose up --no-build --detach "${STORES_UP[@]}" || { tail -30 "$WORK/logs/compose.log" >&2; return 1; }
  local store
  for store in "${STORES_UP[@]}"; do within 180 is_well "$store" || return; done
  migrate || return
  compose up --no-build --detach --no-deps "${PROGRAMS_UP[@]}" || { tail -30 "$WORK/logs/compose.log" >&2; return 1; }
  found_at
  within 90 all_healthy || return
  detail "$(podman ps --quiet | wc -l) containers"
}

found_at() {
  GRPC=127.0.0.1:$grpc_port SERVER_HTTP=127.0.0.1:$http_port CHECKER_HTTP=127.0.0.1:$checker_port
  CONSUMER_HTTP=$(address_of sync-consumer):8894
}

scraped() {
  within 60 all_up || return
  detail "$(http_at "127.0.0.1:$prometheus_port" '/api/v1/targets?state=active' | grep -o '"health":"up"' | wc -l) targets are up"
}

all_up() {
  local said
  said=$(http_at "127.0.0.1:$prometheus_port" '/api/v1/targets?state=active')
  (($(grep -o '"health":"up"' <<<"$said" | wc -l) == 5)) && ! grep -q '"health":"down"' <<<"$said"
}

# As a machine does that has no memory left, not as an operator who wants them stopped.
kill_programs() {
  local name before
  for name in "${PROGRAMS_UP[@]}"; do
    before=$(podman inspect --format '{{.State.Pid}}' "$(container "$name")")
    kill -9 "$before"
    within 60 runs_again "$name" "$before" || return
    found_at
    within 60 all_healthy || return
  done
}

# Their disks are there when they come back.
kill_stores() {
  local name before said
  for name in mysql redis rabbitmq; do
    before=$(podman inspect --format '{{.State.Pid}}' "$(container "$name")")
    kill -9 "$before" || return
    within 60 runs_again "$name" "$before" || return
    within 120 is_well "$name" || return
    within 60 all_healthy || return
  done
  # What Redis may not load from its file it leaves out, and only says so.
  said=$(podman logs "$(container redis)" 2>&1 | sed -n '/CRITICAL/p' | tail -1)
  [[ -z $said ]] || { say "Redis: $said"; return 1; }
}

runs_again() {
  local pid
  pid=$(podman inspect --format '{{.State.Running}} {{.State.Pid}}' "$(container "$1")")
  [[ $pid == true\ * && $pid != "true $2" ]]
}

# roll_to TAG: one program after the other, in the order of UPGRADING.md.
roll_to() {
  local before name order=("${PROGRAMS_UP[@]}")
  TAG=$1
  [[ $1 == old ]] && order=(interaction-server consistency-checker sync-consumer)
  [[ $1 == old ]] && ((!same)) && COMPOSE=compose.old.yaml || COMPOSE=compose.yaml
  cat "$WORK/$1.yml" >"$WORK/deploy/config/event_driven_sync.yml"
  if [[ $1 == new ]]; then
    before=$(migrations) || return
    migrate || return
    detail "$(($(migrations) - before)) migrations applied, $(migrations) in all"
  fi
  for name in "${order[@]}"; do
    podman stop --time 40 "$(container "$name")" >/dev/null || return
    podman rm "$(container "$name")" >/dev/null || return
    compose up --no-build --detach --no-deps "$name" || { tail -30 "$WORK/logs/compose.log" >&2; return 1; }
    [[ $(podman inspect --format '{{.ImageName}}' "$(container "$name")") == *interaction-sync:$1 ]] || { say "$name is another image"; return 1; }
    found_at
    within 90 all_healthy || return
  done
  if [[ $1 == new ]]; then for name in "${order[@]}"; do within 60 is_well "$name" || return; done; fi
}

# What deploy/compose.yaml takes away is not there, in any container.
confined() {
  local name id said program
  for name in "${STORES_UP[@]}" "${PROGRAMS_UP[@]}"; do
    id=$(container "$name")
    said=$(podman inspect --format '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.SecurityOpt}}' "$id")
    [[ $said =~ ^true\ [1-9][0-9]+\ [1-9][0-9]+\ .*no-new-privileges ]] || { say "$name: $said"; return 1; }
    # The process that serves, whatever started it: nobody's superuser, and nothing left to become one.
    program=$(podman inspect --format '{{.State.Pid}}' "$id")
    said=$(grep -E '^(Uid|CapEff|NoNewPrivs):' "/proc/$program/status")
    grep -q 'CapEff:.0000000000000000' <<<"$said" && grep -q 'NoNewPrivs:.1' <<<"$said" && ! grep -qE 'Uid:.0[^0-9]' <<<"$said" ||
      { say "$name: $said"; return 1; }
    said=$(podman exec "$id" sh -c 'touch /etc/x /usr/x 2>&1') || true
    [[ $(grep -c 'Read-only file system' <<<"$said") == 2 ]] || { say "$name: $said"; return 1; }
  done
  detail "$((${#STORES_UP[@]} + ${#PROGRAMS_UP[@]})) containers: no superuser, read-only, no capabilities, no new privileges, limits of memory and processes"
}

# It goes on with less, so nobody takes it out of service or restarts it.
without_redis() {
  local said name
  podman stop --time 20 "$(container redis)" >/dev/null || return
  within 30 says_degraded || return
  # A busy machine can be too late for one check.
  within 30 is_well interaction-server || { say "not ready without Redis"; return 1; }
  for name in "${PROGRAMS_UP[@]}"; do
    said=$(podman exec "$(container "$name")" "$name" health --live) || { say "$said"; return 1; }
  done
  said=$(podman exec "$(container interaction-server)" interaction-server health)
  podman start "$(container redis)" >/dev/null || return
  within 90 all_healthy || return
  detail "$(cut -c-90 <<<"$said")"
}

says_degraded() {
  local said
  said=$(podman exec "$(container interaction-server)" interaction-server health)
  [[ $said == *"is degraded"*redis* ]]
}

stop_programs() {
  local name id code said=()
  for name in interaction-server sync-consumer consistency-checker; do
    id=$(container "$name")
    podman stop --time 40 "$id" >/dev/null || return
    code=$(podman inspect --format '{{.State.ExitCode}}' "$id")
    said+=("$name $code")
    [[ $code == 0 ]] || { podman logs --tail 20 "$id" >&2; say "exit code $code of $name"; return 1; }
    podman rm "$id" >/dev/null || return
  done
  detail "exit codes: ${said[*]}"
}
