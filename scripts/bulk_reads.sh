#!/usr/bin/env bash
# How fast likes are answered beside calls that read hundreds of counts.
#
#   scripts/bulk_reads.sh [--seconds S] [--rate LIKES_PER_SECOND] [--reads N] [--rounds N] [--no-build]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" bulk-reads "$@"
