#!/usr/bin/env bash
# Measures the pipeline against what its parts can do, and against peers; --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" bench "$@"
