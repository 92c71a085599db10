#!/usr/bin/env bash
# Smoke test of a running system: every part answers, and a like arrives everywhere.
#
#   scripts/verify_sync_service.sh
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" verify-sync-service "$@"
