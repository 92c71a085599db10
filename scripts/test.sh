#!/usr/bin/env bash
# Everything that CI runs, on a fresh Debian or Ubuntu with Rust and a C compiler; --help says more.
#
#   scripts/test.sh [--fast | --all] [--only WORD,...]
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" test "$@"
