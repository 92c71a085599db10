#!/usr/bin/env bash
# Measures the pipeline against what its parts can do, and against peers.
#
#   scripts/bench.sh [--fast] [--only a,b,...] [--no-build] [--runs N] [--seconds S] [--ten-million]
#                    [--no-peers] [--guard]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" bench "$@"
