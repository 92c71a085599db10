#!/usr/bin/env bash
# Checks everything under deploy/ without starting any of it.
#
#   scripts/check_deploy.sh [--schemas] [URL...]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" check-deploy "$@"
