#!/usr/bin/env bash
# A client in Python against a running system, or with --private one of its own; --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" test-python-client "$@"
