#!/usr/bin/env bash
# Everything that CI runs, on a fresh Debian or Ubuntu with Rust and a C compiler: format, lints, docs, dependency rules,
# all tests on private real servers, and the whole system by its scripts.
#
#   scripts/test.sh [--fast]
#
# --fast leaves out the release build and what runs on it. Needs no running system and disturbs none: ports are free
# ones, data lies in a temporary directory. Nothing stays behind, also after Ctrl-C. Exit code 1 if a step failed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

fast=0
for argument in "$@"; do
  case $argument in
    --fast) fast=1 ;;
    *) die "unknown argument $argument; usage: scripts/test.sh [--fast]" ;;
  esac
done

# Settings of the caller must not reach the tests.
while IFS= read -r name; do unset "$name"; done < <(compgen -e | grep -E '^(INTERACTION__|TEST_)|_PORT$|^(GRPC|HTTP|CONSUMER_HTTP|CHECKER_HTTP)_ADDR$|^(REDIS|DATABASE|AMQP)_URL$|^(CONFIG_FILE|REDIS_PREFIX|SYNCCTL)$')
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto} RUST_BACKTRACE=${RUST_BACKTRACE:-0}
if [[ ! -t 2 ]]; then export CARGO_TERM_PROGRESS_WHEN=never; fi
if [[ ${CI:-} == true ]]; then export CARGO_INCREMENTAL=0; fi
# A trace of real users, if somebody put it there: https://grouplens.org/datasets/movielens/
MOVIELENS=${MOVIELENS_RATINGS:-$ROOT/../shared/data/movielens/ratings.csv}

SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/likes-test-XXXXXX")
# Every process started from here on inherits this, however far it detaches itself.
export LIKES_TEST_RUN=$SCRATCH TMPDIR=$SCRATCH

# --- processes

# started_pids: what carries the mark and still runs.
started_pids() {
  local file
  while IFS= read -r file; do
    file=${file#/proc/}
    printf '%s\n' "${file%/environ}"
  done < <(env -u LIKES_TEST_RUN grep -lszxF "LIKES_TEST_RUN=$SCRATCH" /proc/[0-9]*/environ || true)
}

end_started() {
  local pids step
  for ((step = 0; step < 150; step++)); do
    pids=$(started_pids)
    [[ -n $pids ]] || return 0
    # Servers get ten seconds to end in order.
    # shellcheck disable=SC2086 # one word per process
    if ((step == 0)); then kill -TERM $pids 2>/dev/null || true; fi
    # shellcheck disable=SC2086
    if ((step >= 100)); then kill -KILL $pids 2>/dev/null || true; fi
    sleep 0.1
  done
  say "these do not end: $pids"
}

clean_up() {
  local status=$?
  trap - EXIT
  trap '' INT TERM HUP
  end_started
  rm -rf "$SCRATCH"
  exit "$status"
}
trap clean_up EXIT
trap 'say interrupted; exit 130' INT
trap 'say terminated; exit 143' TERM HUP

# --- steps

names=() results=() times=() passed=0 failed=0
# Jobs in groups of their own: otherwise they would ignore Ctrl-C and hand that on to the programs under test.
set -m

# step HEADING COMMAND...: runs it, with the time it took, and sets `ok`; a failure does not stop the others.
# Never call it as a condition: bash would ignore `set -e` in everything below.
step() {
  local heading=$1 started=$SECONDS
  shift
  printf '\n==> %s\n' "$heading"
  # In the background, so that a signal is handled at once; with a copy of what it prints, to repeat it if it fails.
  # That copy is written by a process without the mark: it ends when the last program of the step has.
  (set -euo pipefail; "$@") </dev/null > >(exec env -u LIKES_TEST_RUN tee "$SCRATCH/step-${#names[@]}.log") 2>&1 &
  ok=1
  wait "$!" || ok=0
  names+=("$heading") times+=($((SECONDS - started)))
  if ((ok)); then
    passed=$((passed + 1)) results+=(passed)
  else
    failed=$((failed + 1)) results+=(FAILED)
  fi
  printf '<== %s: %s in %s s\n' "$heading" "${results[-1]}" "${times[-1]}"
}

install() {
  need_packages browser
  command -v cc >/dev/null || die "a C compiler is missing: apt-get install build-essential"
  command -v cargo >/dev/null || die "cargo is missing: install Rust from https://rustup.rs"
  local component
  for component in fmt clippy; do
    cargo "$component" --version >/dev/null 2>&1 || rustup component add "${component/#fmt/rustfmt}"
  done
}

# Lints and docs check, tests compile, the scripts need a release build: three times the dependencies and not once more.
# So every command below selects the whole workspace, and so does build_programs.
lint() { cargo clippy --locked --workspace --all-targets -- -D warnings; }
document() { RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps; }
rules() { cargo test --locked --workspace --test rules; }
# Tests start programs beside them; with --lib and so on, cargo builds these with the same features as the tests.
build() { cargo build --locked --workspace --lib --bins --tests --examples; }

# All tests share one set of servers, except those that kill theirs.
tests() {
  export RUN_DIR=$SCRATCH/tests
  "$ROOT/scripts/up.sh" --stores-only || {
    "$ROOT/scripts/down.sh" --wipe
    return 1
  }
  local name value port
  while IFS='=' read -r name value; do export "TEST_$name=$value"; done <"$RUN_DIR/env"
  port=${TEST_DATABASE_URL##*:}
  # Nothing here outlives a crash of the database, so it need not wait for the disk.
  mariadb_client "${port%%/*}" --execute 'SET GLOBAL innodb_flush_log_at_trx_commit = 0'
  local status=0
  cargo test --locked --workspace --no-fail-fast || status=$?
  "$ROOT/scripts/down.sh" --wipe
  return "$status"
}

# --- the whole system, by its scripts

export RUN_DIR=$SCRATCH/run

start() {
  "$ROOT/scripts/up.sh"
  local before after
  before=$(cat "$RUN_DIR"/*.pid)
  "$ROOT/scripts/up.sh" --no-build >/dev/null
  after=$(cat "$RUN_DIR"/*.pid)
  [[ $before == "$after" ]] || die "up.sh twice restarted something"
}

# Load on empty stores without limits, so that verify may insist that nothing else is there.
start_for_load() {
  "$ROOT/scripts/down.sh" --wipe
  local limit
  for limit in USER_ACTION IP GLOBAL; do export "INTERACTION__RATE_LIMITING__${limit}__ENABLED=false"; done
  "$ROOT/scripts/up.sh" --no-build
}

syncctl() (
  set -a
  # shellcheck disable=SC1091
  source "$RUN_DIR/env"
  "${CARGO_TARGET_DIR:-$ROOT/target}/release/syncctl" "$@"
)

generated_trace() {
  syncctl load --generate --likes 20000 --users 2000 --resources 500 --unlikes 0.3 --comments 0.2 --seed 7 \
    --concurrency 64 --oplog "$SCRATCH/generated-1" </dev/null
  syncctl load --generate --likes 20000 --users 2000 --resources 500 --unlikes 0.3 --comments 0.2 --seed 8 \
    --concurrency 4 --batch 100 --oplog "$SCRATCH/generated-2" </dev/null
  syncctl verify --oplog "$SCRATCH/generated-1" --oplog "$SCRATCH/generated-2"
}

# Once, and the whole file again on top of it.
movielens_trace() {
  local oplogs=(--oplog "$SCRATCH/generated-1" --oplog "$SCRATCH/generated-2") run
  for run in 1 2; do
    syncctl load --trace "$MOVIELENS" --format movielens --concurrency 64 --oplog "$SCRATCH/movielens-$run"
    oplogs+=(--oplog "$SCRATCH/movielens-$run")
    syncctl verify "${oplogs[@]}"
  done
}

show_logs() {
  local log
  for log in "$RUN_DIR"/logs/{interaction-server,sync-consumer,consistency-checker}.log; do
    [[ -e $log ]] || continue
    printf -- '--- the end of %s\n' "${log##*/}"
    tail -n 40 "$log"
  done
}

stop() {
  "$ROOT/scripts/down.sh" --wipe
  [[ ! -e $RUN_DIR ]] || die "$RUN_DIR is left"
}

nothing_left() {
  local pid left=()
  # This step's own shell is not marked: its environment is the one that the script was started with.
  for pid in $(started_pids); do left+=("$pid $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"); done
  ((${#left[@]} == 0)) || { printf 'still running: %s\n' "${left[@]}"; return 1; }
}

# system_step HEADING COMMAND...: a step that needs what the steps before it have started.
system_step() {
  if ((!running)); then
    names+=("$1") times+=(0) results+=("not run")
    return
  fi
  step "$@"
  if ((!ok)); then show_logs; fi
}

system() {
  local running=1
  system_step "up.sh, twice" start
  running=$ok
  system_step "verify_sync_service.sh" "$ROOT/scripts/verify_sync_service.sh"
  system_step "test_python_client.sh" "$ROOT/scripts/test_python_client.sh"
  system_step "test_event_driven_sync.sh" "$ROOT/scripts/test_event_driven_sync.sh"
  system_step "down.sh --wipe, up.sh for load" start_for_load
  running=$((running && ok))
  system_step "generated trace: load, verify" generated_trace
  if [[ -r $MOVIELENS ]]; then system_step "MovieLens trace, twice: load, verify" movielens_trace; fi
  step "down.sh --wipe" stop
  system_step "chaos.sh --profile quick" "$ROOT/scripts/chaos.sh" --profile quick
  system_step "migration_drill.sh" "$ROOT/scripts/migration_drill.sh" --no-build --likes 3000 --users 800
  # Its peers come from other packages' registries: not part of this.
  system_step "bench.sh --fast" "$ROOT/scripts/bench.sh" --fast --no-build --no-peers
}

# In the foreground: sudo may ask for a password.
printf '\n==> %s\n' packages
install
step "format" cargo fmt --all --check
step "clippy" lint
step "docs" document
step "dependency rules" rules
step "deny.sh" "$ROOT/scripts/deny.sh"
step "check_deploy.sh" "$ROOT/scripts/check_deploy.sh"
step "build" build
step "tests" tests
if ((!fast)); then system; fi
step "no process is left" nothing_left

# The first step that failed usually explains the others.
for ((number = 0; number < ${#names[@]}; number++)); do
  [[ ${results[number]} == FAILED ]] || continue
  printf '\n--- %s failed; what it said:\n' "${names[number]}"
  grep -E '^(test .* FAILED|error|---- |thread .* panicked)' -A 4 "$SCRATCH/step-$number.log" | tail -n 120 || true
  printf -- '--- and at its end:\n'
  tail -n 30 "$SCRATCH/step-$number.log"
done

printf '\n'
for ((number = 0; number < ${#names[@]}; number++)); do
  printf '%-44s %-8s %5s s\n' "${names[number]}" "${results[number]}" "${times[number]}"
done
printf '%-44s %-8s %5s s\n' total '' "$SECONDS"
printf '\n%s passed, %s failed\n' "$passed" "$failed"
((failed == 0))
