#!/usr/bin/env bash
# Writes a backup of the database of a running compose.yaml to a file: one consistent state, for which no like waits.
#
#   deploy/backup.sh FILE
#
# It is readable by its owner alone, and FILE is never half a backup. compose.restore.yaml takes it. What else is to be kept, and how
# old a backup may be: docs/RECOVERY.md#backups. COMPOSE names another command than `docker compose -f compose.yaml`.
set -euo pipefail
(($# == 1)) && [[ $1 != -* ]] || { printf 'usage: %s FILE\n' "$0" >&2; exit 64; }
[[ $1 == /* ]] && file=$1 || file=$PWD/$1
cd "$(dirname "${BASH_SOURCE[0]}")"
umask 077
read -r -a compose <<<"${COMPOSE:-docker compose -f compose.yaml}"

# Of its own: two at a time would write into one.
new=$(mktemp "$file.XXXXXX")
trap 'rm -f "$new"' EXIT
# shellcheck disable=SC2016 # the container's words
"${compose[@]}" exec -T mysql sh -c \
  'MYSQL_PWD=$(cat /run/secrets/mysql_root_password) exec mysqldump --user=root --single-transaction --quick "$MYSQL_DATABASE"' >"$new"
# Its last line, which a connection that broke does not write.
tail -n 1 "$new" | grep -q '^-- Dump completed' || { printf 'error: the dump ended early\n' >&2; exit 1; }
mv "$new" "$file"
