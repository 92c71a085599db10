#!/usr/bin/env bash
# The quick starts of docs/clients against the real program.
#
#   scripts/test_clients.sh [--no-build] [--only CLIENT,...]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" test-clients "$@"
