#!/usr/bin/env bash
# Measures the checker on a private installation; --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" consistency-bench "$@"
