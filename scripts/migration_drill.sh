#!/usr/bin/env bash
# Rehearses a migration from a synchronous system on private stores; --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" migration-drill "$@"
