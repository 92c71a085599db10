#!/usr/bin/env bash
# Walks likes through a running system and looks after each step into every table and key.
#
#   scripts/test_event_driven_sync.sh
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" test-event-driven-sync "$@"
