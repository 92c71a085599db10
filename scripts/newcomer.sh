#!/usr/bin/env bash
# A newcomer's first minutes, from a clean clone of what is committed: `cargo run --release`, likes, kill -9, again, and
# everything is there.
#
#   scripts/newcomer.sh [--trace FILE] [--keep]
#
# --trace replays a MovieLens ratings.csv as well, with five kill -9 during it. --keep leaves the clone behind.
# The build is a cold one unless CARGO_TARGET_DIR names a directory to reuse. Exit code 1 if anything is missing.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

trace= keep=0
while (($#)); do
  case $1 in
    --trace) trace=$(readlink -f "${2:?--trace needs a file}"); shift ;;
    --keep) keep=1 ;;
    *) die "unknown argument $1; usage: scripts/newcomer.sh [--trace FILE] [--keep]" ;;
  esac
  shift
done

# Nothing of the caller's may help or disturb.
while IFS= read -r name; do unset "$name"; done < <(compgen -e | grep -E '^INTERACTION_|^(GRPC_ADDR|DATABASE_URL|REDIS_URL|REDIS_PREFIX)$')
export CARGO_TERM_PROGRESS_WHEN=never

work=$(mktemp -d "${TMPDIR:-/tmp}/newcomer-XXXXXX")
server= load=
finish() {
  local status=$?
  trap - EXIT
  for pid in $load $server; do kill -KILL "$pid" 2>/dev/null || true; done
  if ((status)) && [[ -e $work/server.log ]]; then say "--- the server's last lines"; tail -n 25 "$work/server.log" >&2; fi
  if ((keep)); then say "left in $work"; else rm -rf "$work"; fi
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

git clone --quiet "$ROOT" "$work/clone"
cd "$work/clone"
started=$SECONDS
cargo build --quiet --locked --release
say "built in $((SECONDS - started)) s$([[ -n ${CARGO_TARGET_DIR:-} ]] && echo ', reusing what was built before')"
target=${CARGO_TARGET_DIR:-$PWD/target}

free_port() {
  local port
  while port=$((15000 + RANDOM % 17000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  printf '%s\n' "$port"
}
grpc=127.0.0.1:$(free_port) http=127.0.0.1:$(free_port)

start() {
  # cargo becomes the program: the process id stays. Load of one user may be high here.
  INTERACTION__RATE_LIMITING__USER_ACTION__ENABLED=false \
    cargo run --quiet --locked --release -- --grpc-addr "$grpc" --http-addr "$http" >>"$work/server.log" 2>&1 </dev/null &
  server=$!
}
is_ready() { (exec 3<>"/dev/tcp/${http/://}" && printf 'GET /health HTTP/1.0\r\n\r\n' >&3 && grep -q '"status":"ok"' <&3) 2>/dev/null; }
ready() {
  local step
  # Long, because cargo may have to wait for others who build.
  for ((step = 0; step < 3000; step++)); do
    is_ready && return
    kill -0 "$server" 2>/dev/null || die "the server ended"
    sleep 0.1
  done
  die "the server is not ready after 300 s"
}
kill_9() { { kill -KILL "$server"; wait "$server"; } 2>/dev/null || true; }
syncctl() { "$target/release/syncctl" "$@"; }
verify() {
  syncctl verify --grpc-addr "$grpc" --http-addr "$http" --database-url "sqlite:$PWD/interaction-data/interaction.db" "$@" >"$work/verify" ||
    { cat "$work/verify" >&2; die "verify found something"; }
}
expect() {
  local seen
  seen=$(syncctl counts --addr "$grpc" video:42)
  [[ $seen == "video:42"$'\t'"$1" ]] || die "video:42 should have $1 likes: $seen"
}

# replay KILLS OPLOG ARGUMENTS...: load that the server is killed under, each time after some more answers.
replay() {
  local kills=$1 oplog=$2 n before
  shift 2
  syncctl load --addr "$grpc" --concurrency 64 --retry-for 120 --oplog "$oplog" "$@" >"$work/load" 2>&1 </dev/null &
  load=$!
  for ((n = 0; n < kills; n++)); do
    before=$(answers "$oplog")
    until (($(answers "$oplog") >= before + 3000)); do
      kill -0 "$load" 2>/dev/null || die "the load ended before the server could be killed: $(cat "$work/load")"
      sleep 0.05
    done
    kill_9
    start
  done
  ready
  wait "$load" || { cat "$work/load" >&2; die "the load was not answered"; }
  load=
}
answers() { wc -l 2>/dev/null <"$1" || echo 0; }

start
ready
for user in 1 2 3; do syncctl like --addr "$grpc" "$user" video:42 >/dev/null; done
expect 3
kill_9
start
ready
expect 3
syncctl like --addr "$grpc" 1 video:42 >/dev/null
syncctl unlike --addr "$grpc" 2 video:42 >/dev/null
expect 2
say "three likes, kill -9, restart: all there"

oplogs=()
replay 2 "$work/generated" --generate --likes 15000 --first-user 1000 --users 2000 --resources 300 --unlikes 0.3 --comments 0.2
oplogs+=(--oplog "$work/generated")
verify --shared "${oplogs[@]}"
say "15000 generated operations, two kill -9: $(grep -o 'all stores agree.*' "$work/verify")"
if [[ -n $trace ]]; then
  # On data of its own, so that verify may insist that nothing else is there.
  kill -TERM "$server" && wait "$server"
  rm -rf interaction-data
  start
  ready
  replay 5 "$work/movielens" --trace "$trace" --format movielens
  verify --oplog "$work/movielens"
  say "MovieLens, five kill -9: $(grep -m1 -iE 'operations' "$work/verify"; grep -o 'all stores agree.*' "$work/verify")"
fi
say "resident memory: $(awk '/^VmRSS/ { printf "%.0f MiB", $2 / 1024 }' "/proc/$server/status")"
kill -TERM "$server"
wait "$server" || die "it did not end well"
server=
say "everything is there"
