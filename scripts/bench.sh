#!/usr/bin/env bash
# Measures the pipeline against what its parts can do, and against peers: each figure several times, in turn with its
# reference, on private servers that scripts/up.sh starts in a temporary directory. Prints a table with medians, spreads
# and targets; writes crates/bench/results.json (measurements that are left out keep their rows there).
#
#   scripts/bench.sh [--fast] [--only a,b,...] [--no-build] [--runs N] [--seconds S] [--ten-million] [--no-peers]
#
# --fast only proves that everything runs: seconds in all, figures mean nothing and are not kept. --ten-million adds 10^7
# pairs to h (15 GB of disk). Peers (i) need Node.js and Python; --no-peers leaves them out. The machine should do nothing
# else meanwhile. Exit code 0 also if a target is missed: the table says so.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

fast=0 build=1 peers=1 arguments=()
while (($#)); do
  case $1 in
    --fast) fast=1 arguments+=("$1") ;;
    --no-build) build=0 ;;
    --no-peers) peers=0 ;;
    --ten-million) arguments+=("$1") ;;
    --only | --runs | --seconds) arguments+=("$1" "${2:?$1 needs a value}") ; shift ;;
    *) die "unknown argument $1; usage: scripts/bench.sh [--fast] [--only a,b,...] [--no-build] [--runs N] [--seconds S] [--ten-million] [--no-peers]" ;;
  esac
  shift
done
if [[ " ${arguments[*]} " == *" --only "* && ! " ${arguments[*]} " =~ \ --only\ [^\ ]*[iI] ]]; then peers=0; fi

# Nothing of the caller's may change what is measured.
while IFS= read -r name; do unset "$name"; done < <(compgen -e | grep -E '^INTERACTION__|_PORT$|^CONFIG_FILE$')

target=${CARGO_TARGET_DIR:-$ROOT/target}
work=$(mktemp -d "${TMPDIR:-/tmp}/likes-bench-XXXXXX")
export RUN_DIR=$work/run
bench=
clean_up() {
  local status=$?
  trap - EXIT
  trap '' INT TERM HUP
  if [[ -n $bench ]] && kill -TERM "$bench" 2>/dev/null; then wait "$bench" 2>/dev/null || true; fi
  # A broker that was paused cannot stop.
  kill -CONT "$(cat "$RUN_DIR/rabbitmq.pid" 2>/dev/null)" 2>/dev/null || true
  "$ROOT/scripts/down.sh" --wipe || status=1
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- peers

# install_peer NAME FILE COMMAND...: copies its sources beside what they need; the command installs that, in the copy, if
# the list of it (FILE) is another one than before.
install_peer() {
  local name=$1 list=$2 directory=$target/bench-peers/$1
  shift 2
  mkdir -p "$directory"
  cp "$ROOT/crates/bench/peers/$name"/* "$directory/"
  cmp -s "$directory/$list" "$directory/installed" && return
  say "installing what the peer $name needs"
  # One chain: whoever calls this as a condition has switched `set -e` off.
  (cd "$directory" && "$@") >&2 && cp "$directory/$list" "$directory/installed"
}

pip_install() {
  rm -rf venv && python3 -m venv venv && venv/bin/pip install --quiet --requirement requirements.txt
}

install_peers() {
  local missing=()
  command -v node >/dev/null && command -v npm >/dev/null || missing+=(nodejs npm)
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  if ((${#missing[@]})); then
    if ((fast)); then
      say "${missing[*]} missing"
      return 1
    fi
    install_packages "${missing[@]}"
  fi
  install_peer bullmq package.json npm install --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel error &&
    install_peer celery requirements.txt pip_install
}

# --- measuring

need_packages
command -v redis-benchmark >/dev/null || install_packages redis-tools
if ((build)); then
  command -v cargo >/dev/null || die "cargo is missing: install Rust from https://rustup.rs"
  build_programs
fi
if ((peers)); then
  if ((fast)); then
    # A quick look must not depend on package registries; the measurement says what it leaves out.
    install_peers || say "peers could not be installed, measuring without them"
  else
    install_peers
  fi
  arguments+=(--peers-dir "$target/bench-peers")
fi
"$ROOT/scripts/up.sh" --stores-only --no-build >/dev/null
results=$ROOT/crates/bench/results.json
if ((fast)); then results=$work/results.json; fi
# In the background, so that a signal is handled at once.
"$target/release/bench" --bin-dir "$target/release" --results "$results" "${arguments[@]}" </dev/null &
bench=$!
status=0
wait "$bench" || status=$?
bench=
exit "$status"
