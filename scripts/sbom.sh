#!/usr/bin/env bash
# Writes the list of everything that is compiled into the programs, as CycloneDX.
#
#   scripts/sbom.sh [--output FILE]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" sbom "$@"
