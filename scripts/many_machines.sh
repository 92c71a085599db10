#!/usr/bin/env bash
# What a like costs, and what is asked while nothing happens, by number of servers and consumers.
#
#   scripts/many_machines.sh [--sizes 1,2,4,8] [--seconds S] [--rate N] [--single] [--set KEY=VALUE] [--no-build]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" many-machines "$@"
