#!/usr/bin/env bash
# The project's own tasks, built first if need be: scripts/xtask.sh --help lists them.
exec cargo run --quiet --locked --manifest-path "$(dirname "${BASH_SOURCE[0]}")/../Cargo.toml" --package xtask -- "$@"
