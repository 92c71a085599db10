# The units, on a machine of their own: a container whose first process is systemd. Sourced by deploy_drill.sh.

UNITS=(sync-consumer consistency-checker interaction-server)

drill_systemd() {
  step "systemd: image" make_machine
  step "systemd: boot" boot_machine || return 0
  step "systemd: start the units" start_units
  step "systemd: verify_sync_service.sh" verified
  step "systemd: what a unit may do" units_confined
  step "systemd: killed -9 under load" under_load units kill_units
  step "systemd: stop" stop_units
  step "systemd: standalone" start_standalone
  podman rm --force --time 20 units >/dev/null 2>&1 || true
}

make_machine() {
  if ! restore_image drill-machine:1; then
    build_image drill-machine:1 "$PARTS/images/systemd" || return
    save_image drill-machine:1
  fi
  detail "$(size_of drill-machine:1)"
}

# It must make namespaces and mounts of its own, as on a machine.
boot_machine() {
  podman run --detach --name units --hostname units --privileged --systemd=always --network "$(compose_network)" \
    drill-machine:1 >/dev/null || return
  within 60 booted || { podman logs --tail 20 units >&2; return 1; }
  # In a container systemd leaves that to others; without it no credentials reach a unit.
  podman exec units mount --make-rshared / || return
  detail "$(podman exec units systemctl --version | sed -n 1p)"
}

booted() { [[ $(podman exec units systemctl is-system-running) =~ ^(running|degraded)$ ]]; }

# As the heads of the units say.
start_units() {
  local name files=$WORK/units
  mkdir -p "$files/secrets"
  podman exec units install -d -m 755 /etc/interaction
  podman exec units install -d -m 700 /etc/interaction/secrets
  for name in tokens {serve,consume,check}_{database,redis}_url {serve,consume}_rabbitmq_url; do
    podman cp "$WORK/deploy/secrets/$name" "units:/etc/interaction/secrets/$name" || return
  done
  podman cp "$WORK/new.yml" units:/etc/interaction/event_driven_sync.yml || return
  # Looked at from outside: in its own words, as deploy/systemd says.
  printf 'INTERACTION__SERVICE__%s=0.0.0.0:%s\n' HTTP_ADDR 8893 CONSUMER_HTTP_ADDR 8894 CHECKER_HTTP_ADDR 8895 >"$files/environment"
  podman cp "$files/environment" units:/etc/interaction/environment || return
  for name in "${UNITS[@]}" standalone; do
    podman cp "$programs/$name" "units:/usr/local/bin/$name" || return
    podman cp "$ROOT/deploy/systemd/$name.service" "units:/etc/systemd/system/$name.service" || return
  done
  podman exec units systemctl daemon-reload || return
  podman exec units systemctl enable --quiet --now "${UNITS[@]}" || { units_say; return 1; }
  local address
  address=$(podman inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' units)
  GRPC=$address:50051 SERVER_HTTP=$address:8893 CONSUMER_HTTP=$address:8894 CHECKER_HTTP=$address:8895
  within 90 all_healthy || { units_say; return 1; }
}

units_say() { podman exec units journalctl --no-pager --lines 30 >&2 || true; }

unit_pid() { podman exec units systemctl show --property MainPID --value "$1"; }

units_confined() {
  local name pid said
  for name in "${UNITS[@]}"; do
    pid=$(unit_pid "$name")
    said=$(podman exec units grep -E '^(Uid|CapEff|NoNewPrivs|Seccomp):' "/proc/$pid/status") || return
    grep -q 'CapEff:.0000000000000000' <<<"$said" && grep -q 'NoNewPrivs:.1' <<<"$said" && grep -q 'Seccomp:.2' <<<"$said" &&
      ! grep -q 'Uid:.0' <<<"$said" || { say "$name: $said"; return 1; }
    podman exec units nsenter --target "$pid" --mount sh -c '! touch /usr/x /etc/x 2>/dev/null' || { say "$name may write"; return 1; }
  done
  detail "a user of its own, no capabilities, no new privileges, seccomp, read-only"
}

kill_units() {
  local name before
  for name in "${UNITS[@]}"; do
    before=$(unit_pid "$name")
    podman exec units systemctl kill --signal KILL --kill-who main "$name" || return
    within 30 unit_runs_again "$name" "$before" || return
    within 60 all_healthy || { units_say; return 1; }
  done
}

unit_runs_again() {
  local pid
  pid=$(unit_pid "$1")
  [[ $pid != 0 && $pid != "$2" ]]
}

stop_units() {
  local name code
  podman exec units systemctl stop interaction-server sync-consumer consistency-checker || return
  for name in "${UNITS[@]}"; do
    code=$(podman exec units systemctl show --property ExecMainStatus --value "$name")
    [[ $code == 0 ]] || { units_say; say "exit code $code of $name"; return 1; }
  done
}

start_standalone() {
  # By itself, as its unit says: on this machine only.
  podman exec units rm /etc/interaction/environment || return
  podman exec units systemctl start standalone || { units_say; return 1; }
  within 60 podman exec units standalone health --config /etc/interaction/event_driven_sync.yml || { units_say; return 1; }
  detail "$(podman exec units standalone health --config /etc/interaction/event_driven_sync.yml)"
}
