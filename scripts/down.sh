#!/usr/bin/env bash
# Stops what scripts/up.sh started: SIGTERM, then SIGKILL. --wipe also removes the data and logs.
#
#   scripts/down.sh [--wipe]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

wipe=0
for argument in "$@"; do
  case $argument in
    --wipe) wipe=1 ;;
    *) die "unknown argument $argument; usage: scripts/down.sh [--wipe]" ;;
  esac
done

[[ -d $RUN_DIR ]] || exit 0
RUN_DIR=$(cd "$RUN_DIR" && pwd)
# Only a directory that up.sh made may be emptied.
[[ -e $RUN_DIR/lock ]] || die "$RUN_DIR was not made by up.sh"
exec 9>"$RUN_DIR/lock"
flock -w 600 9 || die "another up.sh or down.sh is at work in $RUN_DIR"

for name in "${SERVICES[@]}"; do stop_part "$name" 40; done
# At the same time: each takes seconds of its own.
for name in "${STORES[@]}"; do stop_part "$name" 60 & done
wait
rm -f "$RUN_DIR/env"
if ((wipe)); then rm -rf "$RUN_DIR"; fi
