# What was done, how long it took, what could not be run. Sourced by deploy_drill.sh.

LINES=() NOT_RUN=() LOADS_OF_MACHINE=() FAILED=0 DETAIL='' BEGAN=$SECONDS

# detail TEXT: what the step has to say.
detail() { DETAIL=$*; }

# step NAME COMMAND...: a line of the table; a failure ends nothing, because what comes after it is worth knowing, too.
step() {
  local name=$1 started=$EPOCHREALTIME word='' took
  shift
  DETAIL=''
  say "--- $name"
  # In a condition `set -e` would be off within the command, so each command checks for itself.
  "$@" || word='**FAILED** '
  [[ -z $word ]] || FAILED=1
  took=$(seconds_since "$started")
  LOADS_OF_MACHINE+=("$(cut -d' ' -f1 /proc/loadavg)")
  LINES+=("| $name | $word${DETAIL:-done} | ${took%.*} s |")
  say "${LINES[-1]}"
}

seconds_since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }'; }

not_run() { NOT_RUN+=("$*"); }

# As a table of Markdown, for the documents.
print_report() {
  printf '\n| step | result | took |\n|---|---|---|\n'
  printf '%s\n' "${LINES[@]}"
  printf '\n%s s in all, on %s cores; load of the machine, the drill among it: %s\n' "$((SECONDS - BEGAN))" "$(nproc)" \
    "$(printf '%s\n' "${LOADS_OF_MACHINE[@]}" | sort -g | sed -n '1p;$p' | paste -sd- | sed 's/-/ to /')"
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
