#!/usr/bin/env bash
# Checks everything under deploy/ without starting any of it; --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" check-deploy "$@"
