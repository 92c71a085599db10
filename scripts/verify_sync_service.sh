#!/usr/bin/env bash
# Smoke test of a running system: every part answers, and a like arrives everywhere; --help says how it finds the system.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" verify-sync-service "$@"
