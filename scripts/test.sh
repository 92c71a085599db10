#!/usr/bin/env bash
# Everything that CI runs, on a fresh Debian or Ubuntu with Rust and a C compiler.
#
#   scripts/test.sh [--fast | --all | --cluster] [--offline] [--only WORD,...]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" test "$@"
