#!/usr/bin/env bash
# Walks likes through the running system and looks after each step into every table and key: sync_events,
# user_behaviors, video_likes, comment_likes, like_counts, and Redis. Harmless on a live system: new users and resources,
# and all likes are taken back at the end (tombstones and ledger rows stay).
#
#   scripts/test_event_driven_sync.sh
#
# Needs what scripts/up.sh started, or addresses in the environment (see probe.sh). Exit code 1 if a step failed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
source "$(dirname "${BASH_SOURCE[0]}")/probe.sh"
load_addresses

PATIENCE=${PATIENCE:-20} # seconds for an event to arrive
passed=0 failed=0 mistakes=()

# step TEXT FUNCTION: runs it, and says PASS or FAIL with everything that was wrong.
step() {
  mistakes=()
  "$2"
  if ((${#mistakes[@]})); then
    failed=$((failed + 1))
    printf 'FAIL  %s\n' "$1"
    printf '        %s\n' "${mistakes[@]}"
  else
    passed=$((passed + 1))
    printf 'PASS  %s\n' "$1"
  fi
}

# expect WHAT EXPECTED COMMAND...: the command prints exactly this, soon.
expect() {
  local what=$1 expected=$2
  shift 2
  becomes "$PATIENCE" "$expected" "$@" || mistakes+=("$what: expected \"$expected\", saw \"$SEEN\"")
}

# call LIKE_OR_UNLIKE USER ANSWER: by gRPC; ANSWER is a pattern. Sets VERSION.
call() {
  local answer
  answer=$("$syncctl" "$1" "$2" "$resource" 2>&1) || true
  VERSION=0
  if [[ $answer =~ version\ ([0-9]+) ]]; then VERSION=${BASH_REMATCH[1]}; fi
  [[ $answer =~ ^$resource:\ $3$ ]] || mistakes+=("$1 answered \"$answer\", expected \"$3\"")
}

# counts_are N: everywhere, and nothing is pending; the counter knows the newest revision.
counts_are() {
  expect "counts (gRPC, redis, pending, like_counts, rows)" "$1 $1 0 $1 $1" all_counts
  expect "stored count and revision known to the counter" "$(stored "CONCAT(like_count, ' ', revision)")" known_to_counter
}
known_to_counter() { printf '%s %s\n' "$(cached dn)" "$(cached dr)"; }

# pair_is LIVE_OR_TOMBSTONE USER VERSION: in row, cache, and by gRPC; the event has left the journal.
pair_is() {
  local liked=liked
  if [[ $1 == tombstone ]]; then liked='not liked'; fi
  expect "${kind}_likes" "$1" row "$2"
  expect "version of the row" "$3" row_version "$2"
  expect "cached pair" "$liked $3" cached_pair "$2"
  expect "state by gRPC" "$resource	$liked	version $3" "$syncctl" states "$2" "$resource"
  expect "journal has no such entry" '' in_journal "$3"
}

# events_are USER LIKES UNLIKES: exactly these, all completed.
events_are() {
  local prefix=''
  if [[ $kind == comment ]]; then prefix=comment_; fi
  expect "completed in sync_events" $(($2 + $3)) ledger "$1" completed
  expect "all in sync_events" $(($2 + $3)) ledger "$1"
  expect "${prefix}like in user_behaviors" "$2" behaviours "$1" "${prefix}like"
  expect "${prefix}unlike in user_behaviors" "$3" behaviours "$1" "${prefix}unlike"
}

like() {
  use_resource video "$video"
  call like "$ada" 'liked, count 1, version [0-9]+'
  last=$VERSION
  pair_is live "$ada" "$last"
  events_are "$ada" 1 0
  counts_are 1
}

like_twice() {
  call like "$ada" "liked, count 1, version $last, unchanged"
  pair_is live "$ada" "$last"
  counts_are 1
}

unlike() {
  call unlike "$ada" 'not liked, count 0, version [0-9]+'
  ((VERSION > last)) || mistakes+=("version $VERSION does not follow $last")
  last=$VERSION
  pair_is tombstone "$ada" "$last"
  # The repeated like above must have left no event.
  events_are "$ada" 1 1
  counts_are 0
}

unlike_twice() {
  call unlike "$ada" "not liked, count 0, version $last, unchanged"
  pair_is tombstone "$ada" "$last"
  counts_are 0
}

like_again() {
  call like "$ada" 'liked, count 1, version [0-9]+'
  ((VERSION > last)) || mistakes+=("version $VERSION does not follow $last")
  last=$VERSION
  pair_is live "$ada" "$last"
  events_are "$ada" 2 1
  counts_are 1
}

second_user() {
  call like "$bob" 'liked, count 2, version [0-9]+'
  pair_is live "$bob" "$VERSION"
  pair_is live "$ada" "$last"
  events_are "$bob" 1 0
  counts_are 2
}

at_once() {
  local number calls=() answers
  answers=$(mktemp)
  for number in {1..8}; do
    "$syncctl" like "$eve" "$resource" >>"$answers" 2>&1 &
    calls+=("$!")
  done
  for number in "${calls[@]}"; do wait "$number" || mistakes+=("one of eight calls at the same time failed"); done
  expect "one of eight changed something" 1 grep -cv unchanged "$answers"
  rm -f "$answers"
  events_are "$eve" 1 0
  counts_are 3
}

# The number of the video: types must not be mixed up.
comment() {
  use_resource comment "$video"
  call like "$ada" 'liked, count 1, version [0-9]+'
  pair_is live "$ada" "$VERSION"
  events_are "$ada" 1 0
  counts_are 1
}

comment_unlike() {
  call unlike "$ada" 'not liked, count 0, version [0-9]+'
  pair_is tombstone "$ada" "$VERSION"
  events_are "$ada" 1 1
  counts_are 0
}

video_is_untouched() {
  use_resource video "$video"
  pair_is live "$ada" "$last"
  events_are "$ada" 2 1
  counts_are 3
}

cache_lost() {
  redis del "$counter_key" "${shard_keys}p:v$ada:$id" >/dev/null
  call like "$ada" 'liked, count [0-9]+, version [0-9]+(, unchanged)?'
  counts_are 3
  expect "video_likes" live row "$ada"
}

take_back() {
  local user
  for user in "$ada" "$bob" "$eve"; do
    call unlike "$user" 'not liked, count [0-9]+, version [0-9]+'
    pair_is tombstone "$user" "$VERSION"
  done
  events_are "$bob" 1 1
  events_are "$eve" 1 1
  counts_are 0
}

ada=$(fresh_id) bob=$(fresh_id) eve=$(fresh_id) video=$(fresh_id) last=0
step "a like arrives in all tables and keys" like
step "the same like again changes nothing" like_twice
step "an unlike leaves a tombstone" unlike
step "the same unlike again changes nothing" unlike_twice
step "a like again revives the row" like_again
step "a second user counts separately" second_user
step "eight likes at the same time are one" at_once
step "a comment is liked" comment
step "a comment is unliked" comment_unlike
step "the video of the same number is untouched" video_is_untouched
step "a lost counter and pair come back right" cache_lost
step "all likes are taken back" take_back

printf '\n%s passed, %s failed\n' "$passed" "$failed"
((failed == 0))
