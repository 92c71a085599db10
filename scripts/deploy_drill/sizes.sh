# What a like takes of each store (docs/SIZING.md). Sourced by deploy_drill.sh.

SIZED=200000

drill_sizes() { step "sizes: of $SIZED likes, each of another pair" measure_sizes; }

# Consumers are away for a while, so that all of them wait in journal and queue.
measure_sizes() {
  local before redis log journal rows kept
  within 120 nothing_waits || return
  podman stop --time 40 "$(container sync-consumer)" >/dev/null || return
  before=$(table_bytes) redis=$(redis_bytes) log=$(log_bytes)
  client "$programs/syncctl" load --generate --likes $SIZED --fresh-users --resources 1000 --zipf 0 --batch 100 --concurrency 16 \
    --first-user $((100000 * 5000)) --json >"$WORK/logs/load.sizes.json" 2>&1 || { tail -5 "$WORK/logs/load.sizes.json" >&2; return 1; }
  journal=$(journals 'MEMORY USAGE' 'SAMPLES 0')
  [[ $(journals XLEN) == "$SIZED" ]] || { say "$(journals XLEN) wait in the journals"; return 1; }
  log=$(($(log_bytes) - log))
  podman start "$(container sync-consumer)" >/dev/null || return
  found_at
  within 300 nothing_waits || return
  redis=$(($(redis_bytes) - redis))
  rows=$(of_tables "$before" '^(video_likes|comment_likes|user_behaviors|like_counts) ') kept=$(of_tables "$before" '^(sync_events|idempotency_keys) ')
  detail "bytes: journal $(each "$journal"), redo log $(each "$log"), cached pair $(each "$redis"), rows $(each "$rows"), ledger $(each "$kept")"
}

each() { awk -v all="$1" -v of=$SIZED 'BEGIN { printf "%.0f", all / of }'; }

redis_bytes() { redis_as admin INFO memory | sed -n 's/^used_memory:\([0-9]*\).*/\1/p'; }
log_bytes() { podman exec "$(container rabbitmq)" sh -c 'du --summarize --bytes /var/lib/rabbitmq/mnesia/*/stream' | cut -f1; }

# Lines `table bytes`, indexes among them.
table_bytes() {
  sql_of_root 'ANALYZE TABLE video_likes, comment_likes, user_behaviors, like_counts, sync_events, idempotency_keys' >/dev/null || return
  sql_of_root 'SELECT table_name, data_length + index_length FROM information_schema.tables WHERE table_schema = DATABASE()' | tr '\t' ' '
}

# of_tables BEFORE PATTERN: by how much these grew.
of_tables() {
  table_bytes | grep -E "$2" | awk -v before="$(grep -E "$2" <<<"$1" | awk '{ sum += $2 } END { print sum }')" '{ sum += $2 } END { print sum - before }'
}
