#!/usr/bin/env bash
# Rehearses a migration from a synchronous system on private stores.
#
#   scripts/migration_drill.sh [--likes N] [--rate R] [--users N] [--keep] [--no-build]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" migration-drill "$@"
