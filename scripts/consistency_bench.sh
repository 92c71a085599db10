#!/usr/bin/env bash
# Measures the checker on a private installation.
#
#   scripts/consistency_bench.sh [sweep] [flow] [--resources N] [--likes N] [--rate N] [--flow-rate N] [--no-build]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" consistency-bench "$@"
