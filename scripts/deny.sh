#!/usr/bin/env bash
# Checks all dependencies against deny.toml; --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" deny "$@"
