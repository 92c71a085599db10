# The rendered base by `podman kube play`, beside the stores that compose started. Sourced by deploy_drill.sh.

drill_kubernetes() {
  local render=()
  if command -v kubectl >/dev/null; then render=(kubectl kustomize); elif command -v kustomize >/dev/null; then render=(kustomize build); fi
  if ((!${#render[@]})); then
    not_run "kubernetes/: neither kubectl nor kustomize is installed"
    return
  fi
  step "kubernetes: render" render_base "${render[@]}"
  step "kubernetes: start" play_base
  step "kubernetes: verify_sync_service.sh" verified
  step "kubernetes: probes" probe_pods
  step "kubernetes: killed -9 under load" under_load kube kill_pods
  step "kubernetes: stop" stop_pods
}

render_base() {
  "$@" "$ROOT/deploy/kubernetes/base" >"$WORK/base.yaml" || return
  sed -i 's#interaction-sync:local#localhost/interaction-sync:new#' "$WORK/base.yaml"
  detail "$(grep -c '^kind:' "$WORK/base.yaml") objects"
}

play_base() {
  local left
  rm -rf "$WORK/kube" && mkdir -p "$WORK/kube"
  left=$("$VENV/bin/python" "$PARTS/kube_for_podman.py" "$WORK/base.yaml" "$WORK/deploy/secrets" "$WORK/kube") || return
  not_run "kubernetes/: $left, volumes of Secrets, published ports, rolling updates: Podman has none of them"
  # Of several replicas Podman makes several pods. Whoever is in them is nobody here, and must find the secrets' files.
  chmod 755 "$WORK"
  podman kube play --network "$(compose_network)" "$WORK/kube/play.yaml" >"$WORK/logs/kube.log" 2>&1 ||
    { tail -20 "$WORK/logs/kube.log" >&2; return 1; }
  at_pods
  within 90 all_healthy || { pods_say; return 1; }
  detail "$(podman pod ps --quiet --filter name=-pod-0 | wc -l) programs, $(pods | wc -l) pods"
}

pods() { podman pod ps --format '{{.Name}}' | grep -E -- '-pod(-[0-9]+)?$'; }

compose_network() { podman network ls --format '{{.Name}}' | grep inner; }

# The first one of a program.
pod_container() { podman ps --all --quiet --filter "name=^$1-pod(-0)?-program$" | head -1; }
pod_address() {
  local infra
  infra=$(podman pod inspect --format '{{.InfraContainerID}}' "$(pods | grep -E "^$1-pod(-0)?$")")
  podman inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$infra"
}

at_pods() {
  GRPC=$(pod_address interaction-server):50051 SERVER_HTTP=$(pod_address interaction-server):8893
  CONSUMER_HTTP=$(pod_address sync-consumer):8894 CHECKER_HTTP=$(pod_address consistency-checker):8895
}

pods_say() {
  local name
  for name in "${PROGRAMS_UP[@]}"; do podman logs --tail 5 "$(pod_container "$name")" >&2 || true; done
}

# The probes' own commands, in the containers; Podman runs the one of liveness.
probe_pods() {
  local name
  for name in "${PROGRAMS_UP[@]}"; do
    # On a busy machine Podman itself can take longer to begin than a probe may take.
    within 60 podman healthcheck run "$(pod_container "$name")" || { say "liveness of $name"; return 1; }
    within 60 podman exec "$(pod_container "$name")" "$name" health || { say "readiness of $name"; return 1; }
  done
}

kill_pods() {
  local name before
  for name in "${PROGRAMS_UP[@]}"; do
    before=$(podman inspect --format '{{.State.Pid}}' "$(pod_container "$name")")
    kill -9 "$before"
    within 60 pod_runs_again "$name" "$before" || return
    within 60 all_healthy || return
  done
}

pod_runs_again() {
  local pid
  pid=$(podman inspect --format '{{.State.Running}} {{.State.Pid}}' "$(pod_container "$1")")
  [[ $pid == true\ * && $pid != "true $2" ]]
}

stop_pods() { podman kube down "$WORK/kube/play.yaml" >>"$WORK/logs/kube.log" 2>&1; }
