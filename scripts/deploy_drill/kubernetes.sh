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
  not_run "kubernetes/: replicas, Service, NetworkPolicy, PodDisruptionBudget, HorizontalPodAutoscaler, Namespace and its pod security, rolling updates: Podman knows none of them"
}

render_base() {
  "$@" "$ROOT/deploy/kubernetes/base" >"$WORK/base.yaml" || return
  sed -i 's#interaction-sync:local#localhost/interaction-sync:new#' "$WORK/base.yaml"
  {
    printf '%s\n' --- 'apiVersion: v1' 'kind: Secret' 'metadata: { name: interaction-secrets }' 'data:'
    local name
    for name in migration-url database-url redis-url rabbitmq-url tokens; do
      printf '  %s: %s\n' "$name" "$(base64 -w0 <"$WORK/deploy/secrets/${name//-/_}")"
    done
  } >"$WORK/secret.yaml"
  detail "$(grep -c '^kind:' "$WORK/base.yaml") objects"
}

play_base() {
  cat "$WORK/secret.yaml" >"$WORK/play.yaml"
  printf -- '---\n' >>"$WORK/play.yaml"
  cat "$WORK/base.yaml" >>"$WORK/play.yaml"
  podman kube play --network "$(compose_network)" "$WORK/play.yaml" >"$WORK/logs/kube.log" 2>&1 || { tail -20 "$WORK/logs/kube.log" >&2; return 1; }
  at_pods
  within 90 all_healthy || { pods_say; return 1; }
  detail "$(podman pod ps --quiet | wc -l) pods"
}

compose_network() { podman network ls --format '{{.Name}}' | grep inner; }

pod_container() { podman ps --all --quiet --filter "name=^$1-pod.*-program$" | head -1; }
pod_address() { podman inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(podman ps --quiet --filter "pod=$1-pod" --filter 'name=infra' | head -1)"; }

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
    podman healthcheck run "$(pod_container "$name")" || { say "liveness of $name"; return 1; }
    podman exec "$(pod_container "$name")" "$name" health >/dev/null || { say "readiness of $name"; return 1; }
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

stop_pods() { podman kube down "$WORK/play.yaml" >>"$WORK/logs/kube.log" 2>&1; }
