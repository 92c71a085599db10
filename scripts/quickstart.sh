#!/usr/bin/env bash
# The first minutes with the project, from a clean clone, with kill -9 among them.
#
#   scripts/quickstart.sh [--trace FILE] [--keep]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" quickstart "$@"
