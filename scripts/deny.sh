#!/usr/bin/env bash
# Checks all dependencies against deny.toml: banned crates, licences, sources, and known advisories.
#
#   scripts/deny.sh [--skip-unfetched]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" deny "$@"
