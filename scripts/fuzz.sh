#!/usr/bin/env bash
# Bad inputs, many of them.
#
#   scripts/fuzz.sh [--inputs N] [--seed N] [--examples N] [--no-schemathesis]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" fuzz "$@"
