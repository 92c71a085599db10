#!/usr/bin/env bash
# A client in Python against a running system, or one of its own.
#
#   scripts/test_python_client.sh [--private] [--no-build]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" test-python-client "$@"
