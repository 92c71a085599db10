# Read by the image of MySQL when it creates a database of a backup (compose.restore.yaml), before the accounts of the programs are made.
tail -n 1 <&8 | grep -q '^-- Dump completed' || { printf 'error: the backup ends early\n' >&2; exit 1; }
docker_process_sql --database="$MYSQL_DATABASE" <&9
