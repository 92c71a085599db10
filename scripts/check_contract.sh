#!/usr/bin/env bash
# The contract in proto/ by buf: its style, and what it would break since the last release.
#
#   scripts/check_contract.sh
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" check-contract "$@"
