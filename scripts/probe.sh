# Shared by the scripts that look at a running system: addresses, clients of its parts, and checks. Sourced after lib.sh.
#
# Addresses come from $RUN_DIR/env, or, where GRPC_ADDR is set, all from the environment: GRPC_ADDR HTTP_ADDR
# CONSUMER_HTTP_ADDR CHECKER_HTTP_ADDR DATABASE_URL REDIS_URL, and REDIS_PREFIX if keys have one. SYNCCTL names another
# syncctl.
export LC_ALL=C

load_addresses() {
  local name value
  if [[ -z ${GRPC_ADDR:-} ]]; then
    [[ -r $RUN_DIR/env ]] || die "nothing runs in $RUN_DIR: scripts/up.sh first, or set GRPC_ADDR and the other addresses"
    while IFS='=' read -r name value; do
      [[ $name == *_URL || $name == *_ADDR ]] && export "$name=$value"
    done <"$RUN_DIR/env"
  fi
  for name in GRPC_ADDR HTTP_ADDR CONSUMER_HTTP_ADDR CHECKER_HTTP_ADDR DATABASE_URL REDIS_URL; do
    [[ -n ${!name:-} ]] || die "$name is not known: is only a part of the system running?"
  done
  export GRPC_ADDR REDIS_PREFIX=${REDIS_PREFIX:-}
  syncctl=${SYNCCTL:-${CARGO_TARGET_DIR:-$ROOT/target}/release/syncctl}
  [[ -x $syncctl ]] || die "$syncctl is missing: cargo build --release -p syncctl"
  command -v redis-cli >/dev/null || die "redis-cli is missing: apt-get install redis-tools"
  command -v mariadb >/dev/null || command -v mysql >/dev/null || die "mariadb is missing: apt-get install mariadb-client"
  read_database_url
}

# --- clients

read_database_url() {
  [[ $DATABASE_URL =~ ^mysql://([^:@/]+)(:([^@/]*))?@([^:/]+)(:([0-9]+))?/([^?]+) ]] ||
    die "DATABASE_URL: expected mysql://user:password@host:port/name"
  local percent='%' escape='\x'
  db_user=${BASH_REMATCH[1]} db_host=${BASH_REMATCH[4]} db_port=${BASH_REMATCH[6]:-3306} db_name=${BASH_REMATCH[7]}
  printf -v db_password '%b' "${BASH_REMATCH[3]//$percent/$escape}"
}

# sql QUERY: rows of tab-separated columns, without headings. The password goes by the environment, not by an argument.
sql() {
  local client=(mysql)
  if command -v mariadb >/dev/null; then client=(mariadb --skip-ssl); fi
  MYSQL_PWD=$db_password timeout 30 "${client[0]}" --no-defaults "${client[@]:1}" --protocol=TCP --connect-timeout=5 --batch \
    --skip-column-names --host="$db_host" --port="$db_port" --user="$db_user" --database="$db_name" --execute "$1"
}

redis() { timeout 10 redis-cli --no-auth-warning -u "$REDIS_URL" "$@"; }

# health ADDRESS: the JSON of GET /health, also when it says that something is unreachable.
health() (
  connect "$1"
  printf 'GET /health HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$1" >&3
  timeout 10 cat <&3 | tr -d '\0\r' | grep '"status"'
)

# check_resource ADDRESS KIND ID: what POST /consistency/check says, without repairing; the JSON alone.
check_resource() (
  local body="{\"resource_type\":\"$2\",\"resource_id\":$3,\"dry_run\":true}"
  connect "$1"
  printf 'POST /consistency/check HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Type: application/json\r\n' "$1" >&3
  printf 'Content-Length: %s\r\n\r\n%s' ${#body} "$body" >&3
  timeout 20 cat <&3 | tr -d '\0\r' | grep '^{'
)

# verdict_of JSON: the first verdict in it, that of the whole answer.
verdict_of() { if [[ $1 =~ \"verdict\":\"([a-z_]+)\" ]]; then printf '%s\n' "${BASH_REMATCH[1]}"; else printf '%s\n' "$1"; fi; }

# connect HOST:PORT: as descriptor 3 of a subshell, which ends if it cannot.
connect() { { exec 3<>"/dev/tcp/${1%:*}/${1##*:}"; } 2>/dev/null || { printf 'no connection to %s\n' "$1"; exit 1; }; }

# part_is_ok JSON PART: whether /health calls this part ok.
part_is_ok() { [[ $1 =~ \"$2\":[[:space:]]*\{\"status\":[[:space:]]*\"ok\" ]]; }

# grpc_health ADDRESS SERVICE: asks the standard health service; prints SERVING or NOT_SERVING.
# By hand, because no client for it belongs to the system: a preface, SETTINGS, and one request in plain HPACK.
grpc_health() (
  local path=/grpc.health.v1.Health/Check headers body answer
  connect "$1"
  # :method POST, :scheme http, :path, :authority, content-type, te
  headers='\x83\x86'"\\x04$(hex8 ${#path})$path\\x01$(hex8 ${#1})$1"'\x0f\x10\x10application/grpc\x00\x02te\x08trailers'
  body='\x00\x00\x00\x00'"$(hex8 $((${#2} + 2)))\\x0a$(hex8 ${#2})$2"
  {
    printf 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00'
    http2_frame '\x01\x04' "$headers"
    http2_frame '\x00\x01' "$body"
  } >&3
  # The answer's data frame holds one message, field 1: the status.
  answer=$(timeout 2 cat <&3 | od -An -v -tx1 | tr -d ' \n') || true
  case $answer in
    *00000000020801*) printf 'SERVING\n' ;;
    *00000000020802*) printf 'NOT_SERVING\n' ;;
    *) return 1 ;;
  esac
)

# http2_frame TYPE_AND_FLAGS PAYLOAD: on stream 1; both are texts for printf.
http2_frame() {
  local length
  length=$(printf '%b' "$2" | wc -c)
  printf '%b' "\\x00\\x00$(hex8 "$length")$1\\x00\\x00\\x00\\x01$2"
}

hex8() { printf '\\x%02x' "$1"; }

# --- what is stored where

# Ids that nobody has used: large, and random.
fresh_id() { printf '%s\n' $((1000000000000000 + (RANDOM << 30 | RANDOM << 15 | RANDOM))); }

# shard_of KIND_NUMBER ID: SplitMix64's finalizer; bash has signed 64-bit numbers, so shifts and remainder need care.
shard_of() {
  local shards hash
  shards=$(redis hget "${REDIS_PREFIX}meta" shards)
  hash=$((($2 ^ ($1 << 62)) + 0x9E3779B97F4A7C15))
  hash=$(((hash ^ ((hash >> 30) & 0x3FFFFFFFF)) * 0xBF58476D1CE4E5B9))
  hash=$(((hash ^ ((hash >> 27) & 0x1FFFFFFFFF)) * 0x94D049BB133111EB))
  hash=$((hash ^ ((hash >> 31) & 0x1FFFFFFFF)))
  printf '%s\n' $(((((hash >> 1) & 0x7FFFFFFFFFFFFFFF) % shards * 2 + (hash & 1)) % shards))
}

# use_resource KIND ID: sets what the functions below look at.
use_resource() {
  kind=$1 id=$2 resource=$1:$2
  local number=1
  if [[ $kind == comment ]]; then number=2; fi
  shard_keys="$REDIS_PREFIX{s$(shard_of $number "$id")}:"
  counter_key="${shard_keys}c:${kind:0:1}$id"
}

# Ledger ids are UUID v7, so the time makes a range of the primary key: nothing else is read, however long the ledger is.
started_ms=$(date +%s%3N)
since() { printf "%s >= UNHEX('%012x00000000000000000000')" "$1" $((started_ms - 600000)); }

# ledger USER [STATUS]: number of events of the pair.
ledger() {
  sql "SELECT COUNT(*) FROM sync_events WHERE $(since id) AND user_id = $1 AND resource_type = '$kind' AND resource_id = $id
       AND status LIKE '${2:-%}'"
}

# behaviours USER TYPE: number of behaviours of the pair.
behaviours() {
  sql "SELECT COUNT(*) FROM user_behaviors WHERE $(since event_id) AND user_id = $1 AND video_id = $id AND behavior_type = '$2'"
}

# row USER: live, tombstone or none.
row() {
  local found
  found=$(sql "SELECT IF(deleted_at IS NULL, 'live', 'tombstone') FROM ${kind}_likes WHERE user_id = $1 AND ${kind}_id = $id")
  printf '%s\n' "${found:-none}"
}

row_version() { sql "SELECT version FROM ${kind}_likes WHERE user_id = $1 AND ${kind}_id = $id"; }
live_rows() { sql "SELECT COUNT(*) FROM ${kind}_likes WHERE ${kind}_id = $id AND deleted_at IS NULL"; }
stored() { sql "SELECT $1 FROM like_counts WHERE resource_type = '$kind' AND resource_id = $id"; }
served_count() { "$syncctl" counts "$resource" | cut -f2; }
cached() { redis hget "$counter_key" "$1"; }

# cached_pair USER: "liked VERSION" or "not liked VERSION"; a version only seen in the database is negative.
cached_pair() {
  local value
  value=$(redis get "${shard_keys}p:${kind:0:1}$1:$id")
  if [[ -z $value ]]; then printf 'not cached\n'; return; fi
  if ((value < 0)); then value=$((-value)); fi
  if ((value & 1)); then printf 'liked %s\n' $((value >> 1)); else printf 'not liked %s\n' $((value >> 1)); fi
}

# in_journal VERSION: the id of the entry, if it is still there; its payload is binary.
in_journal() { redis xrange "${shard_keys}j" "$1-0" "$1-0" | sed -n 1p | tr -d '\0'; }

# all_counts: what the four places say, in one line: served, cached and its pending, stored, live rows.
all_counts() { printf '%s %s %s %s %s\n' "$(served_count)" "$(cached n)" "$(cached p)" "$(stored like_count)" "$(live_rows)"; }

# --- checks

# becomes SECONDS EXPECTED COMMAND...: waits until the command prints this; sets SEEN to what it printed last.
becomes() {
  local end=$((SECONDS + $1)) expected=$2
  shift 2
  while :; do
    SEEN=$("$@" 2>&1) || true
    [[ $SEEN != "$expected" ]] || return 0
    ((SECONDS < end)) || return 1
    sleep 0.1
  done
}
