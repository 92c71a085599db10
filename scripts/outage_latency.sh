#!/usr/bin/env bash
# How fast likes are answered while the broker or the database is unreachable, or while a store answers with errors.
#
#   scripts/outage_latency.sh [--seconds S] [--rate LIKES_PER_SECOND] [--moods [--only NAME] [--limit RATIO]] [--no-build]
#
# --help says more.
exec "$(dirname "${BASH_SOURCE[0]}")/xtask.sh" outage-latency "$@"
