#!/usr/bin/env bash
# The whole stack under load and seeded faults: processes killed and stopped, links cut, held and slowed, disks slow, rows
# locked, clocks wrong, queues full, emptied and deleted, the broker wiped, Redis flushed; one fault at a time, then
# several. Then everything is healed and every store judged by the history of the run. docs/TESTING.md lists the faults.
#
#   scripts/chaos.sh [--seed N] [--seconds S] [--profile quick|failover|cluster] [--json] [--only NAME,...] [--out DIR]
#
# Builds the release programs if one is missing; PROFILE=debug means debug programs. Exit code 1 if anything was lost, doubled or miscounted, a process
# panicked or grew too large, or the system did not come back by itself.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

need_packages
programs=$(programs_dir)
for program in interaction-server sync-consumer consistency-checker syncctl chaos; do
  if [[ ! -x $programs/$program ]]; then
    command -v cargo >/dev/null || die "cargo is missing: install Rust from https://rustup.rs"
    build_programs
    break
  fi
done
# Later arguments win, so --bin-dir may be given.
exec "$programs/chaos" --bin-dir "$programs" "$@"
