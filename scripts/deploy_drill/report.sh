# What was done, how long it took, what could not be run. Sourced by deploy_drill.sh.

LINES=() NOT_RUN=() FAILED=0 DETAIL=''

# detail TEXT: what the step has to say.
detail() { DETAIL=$*; }

# step NAME COMMAND...: a line of the table; a failure ends nothing, because what comes after it is worth knowing, too.
step() {
  local name=$1 started=$EPOCHREALTIME word=ok took
  shift
  DETAIL=''
  say "--- $name"
  # In a condition `set -e` would be off within the command, so each command checks for itself.
  "$@" || word=FAILED
  [[ $word == ok ]] || FAILED=1
  took=$(awk -v from="$started" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }')
  LINES+=("$(printf '%-44s %-7s %6s s  %s' "$name" "$word" "$took" "$DETAIL")")
  say "${LINES[-1]}"
}

not_run() { NOT_RUN+=("$*"); }

print_report() {
  printf '\n%-44s %-7s %8s  detail\n' step result took
  printf '%s\n' "${LINES[@]}"
  ((${#NOT_RUN[@]} == 0)) || printf '\nnot run:\n' && printf '  %s\n' ${NOT_RUN[@]+"${NOT_RUN[@]}"}
  ((!FAILED)) || die "a step failed"
}

# within SECONDS COMMAND...: until it succeeds.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < end)) || { say "does not become true: $*"; "$@" >&2 || true; return 1; }
    sleep 0.3
  done
}
