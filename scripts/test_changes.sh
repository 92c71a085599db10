#!/usr/bin/env bash
# Changes for others to hear: a listener in Python has what the database has, whoever is killed.
#
#   scripts/test_changes.sh [--seeds LIST] [--no-build]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" test-changes "$@"
