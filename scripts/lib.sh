# Shared by the scripts: private servers and services under RUN_DIR. Sourced by bash with `set -euo pipefail`.
#
# RUN_DIR (default .run in the repository) holds per part <name>.pid, logs/<name>.log and its data; `ports` remembers the
# chosen ports, `env` tells clients the addresses. Every process carries LIKES_RUN=<RUN_DIR>/<name> in its environment:
# that tells ours from a stranger with a reused process id, and finds daemons that a server started by itself.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
RUN_DIR=${RUN_DIR:-$ROOT/.run}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# In the order of stopping.
SERVICES=(consistency-checker interaction-server sync-consumer)
STORES=(rabbitmq mariadb redis)

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# PROFILE=debug uses debug programs, which are built in a fraction of the time; PROFILE=dist those of images and measurements,
# which take several times as long.
PROFILE=${PROFILE:-release}
[[ $PROFILE =~ ^(release|debug|dist)$ ]] || die "PROFILE must be release, debug or dist, got $PROFILE"

# programs_dir: where the programs are.
programs_dir() { printf '%s\n' "${CARGO_TARGET_DIR:-$ROOT/target}/$PROFILE"; }

# --- processes

# pid_of NAME: the process id, if the part runs.
pid_of() {
  local pid environment step
  pid=$(cat "$RUN_DIR/$1.pid" 2>/dev/null) || return 1
  [[ -n $pid ]] || return 1
  for ((step = 0; step < 100; step++)); do
    environment=$(tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ") || return 1
    if grep -qxF "LIKES_RUN=$RUN_DIR/$1" <<<"$environment"; then
      printf '%s\n' "$pid"
      return
    fi
    # A stranger. But an empty one belongs to a dead process, or to one that is just replacing its program (RabbitMQ's
    # start script does that several times) and is there at the next look.
    [[ -z $environment ]] && ! grep -qs '^State:[[:space:]]*Z' "/proc/$pid/status" || return 1
    sleep 0.01
  done
  return 1
}

# marked_pids NAME: every process of a part, daemons of servers included.
marked_pids() {
  local file
  while IFS= read -r file; do
    file=${file#/proc/}
    printf '%s\n' "${file%/environ}"
  done < <(grep -lszxF "LIKES_RUN=$RUN_DIR/$1" /proc/[0-9]*/environ || true)
}

# start_part NAME COMMAND...: starts it detached; output goes to its log. Daemons of its dead predecessor go first.
start_part() {
  local name=$1
  shift
  kill_marked "$name"
  mkdir -p "$RUN_DIR/logs"
  # Descriptor 9 is the lock of up.sh and down.sh. A background job leads no group, so setsid does not fork.
  LIKES_RUN=$RUN_DIR/$name setsid "$@" >>"$RUN_DIR/logs/$name.log" 2>&1 </dev/null 9>&- &
  printf '%s\n' "$!" >"$RUN_DIR/$name.pid"
  # Between fork and exec it is still a copy of this shell, without the mark: whoever asked now would call it dead.
  while kill -0 "$!" 2>/dev/null && ! pid_of "$name" >/dev/null; do sleep 0.01; done
}

# stop_part NAME SECONDS: SIGTERM, after that long SIGKILL; then whatever else carries its mark.
stop_part() {
  local name=$1 pid step
  if pid=$(pid_of "$name"); then
    kill -TERM "$pid" 2>/dev/null || true
    kill -CONT "$pid" 2>/dev/null || true
    for ((step = 0; step < $2 * 10; step++)); do
      pid_of "$name" >/dev/null || break
      sleep 0.1
    done
    pid_of "$name" >/dev/null && say "$name did not stop within $2 s: killed"
  fi
  kill_marked "$name"
  rm -f "$RUN_DIR/$name.pid" "$RUN_DIR/$name.stamp"
}

# kill_marked NAME: SIGKILL to every process of a part, and waits until they are gone.
kill_marked() {
  local pids step
  for ((step = 0; step < 100; step++)); do
    pids=$(marked_pids "$1")
    [[ -n $pids ]] || return 0
    # shellcheck disable=SC2086 # one word per process
    kill -KILL $pids 2>/dev/null || true
    sleep 0.1
  done
  die "processes of $1 do not end: $pids"
}

# wait_for NAME SECONDS COMMAND...: until the command succeeds; gives up at once when the part has ended.
wait_for() {
  local name=$1 limit=$2 end=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    pid_of "$name" >/dev/null || part_failed "$name" "ended while starting"
    ((SECONDS < end)) || {
      # What it says of itself, where it says anything.
      [[ $1 != http_get ]] || "$@" 2>/dev/null | tail -n 1 >&2 || true
      part_failed "$name" "is not well after $limit s, and goes on running"
    }
    sleep 0.1
  done
}

part_failed() {
  tail -n 25 "$RUN_DIR/logs/$1.log" >&2 || true
  die "$1 $2; its log is $RUN_DIR/logs/$1.log"
}

# --- ports

port_is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# choose_port NAME FIXED: sets PORT: FIXED if given, the part's last one if it runs or the port is free, else a free one.
# Chosen below the ephemeral range, where no outgoing connection can take it while the server is down.
choose_port() {
  local name=$1 fixed=$2 saved
  touch "$RUN_DIR/ports"
  saved=$(sed -n "s/^$name=//p" "$RUN_DIR/ports")
  if pid_of "${3:-$name}" >/dev/null && [[ -n $saved ]]; then
    [[ -z $fixed || $fixed == "$saved" ]] || die "$name already runs on port $saved, not $fixed: scripts/down.sh first"
    PORT=$saved
    return
  fi
  PORT=${fixed:-$saved}
  if [[ -n $fixed ]] && port_is_taken "$fixed"; then die "port $fixed, meant for $name, is taken"; fi
  while [[ -z $PORT ]] || { [[ -z $fixed ]] && { port_is_taken "$PORT" || port_is_promised "$name" "$PORT"; }; }; do
    PORT=$((15000 + RANDOM % 17000))
  done
  sed -i "/^$name=/d" "$RUN_DIR/ports"
  printf '%s=%s\n' "$name" "$PORT" >>"$RUN_DIR/ports"
}

# Whether another part was given this port but does not listen yet.
port_is_promised() { grep -v "^$1=" "$RUN_DIR/ports" | grep -q "=$2\$"; }

# --- building

# build_programs: every program, with the clients of all servers. Always the same selection: with another one cargo would
# choose other features of the dependencies and build them again.
build_programs() {
  local flags=(--locked --workspace --bins --features distributed)
  if [[ $PROFILE != debug ]]; then flags+=(--profile "$PROFILE"); fi
  (cd "$ROOT" && cargo build "${flags[@]}")
}

# --- installing

# need_packages [BROWSER]: installs the servers where their programs are missing; given any argument, also what tests look
# at pages with.
need_packages() {
  local missing=()
  command -v redis-server >/dev/null || missing+=(redis-server)
  rabbitmq_program >/dev/null || missing+=(rabbitmq-server)
  command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null && command -v mariadb >/dev/null ||
    missing+=(mariadb-server)
  if (($#)); then
    command -v chromium >/dev/null || missing+=(chromium)
    command -v chromedriver >/dev/null || missing+=(chromium-driver)
  fi
  ((${#missing[@]})) || return 0
  install_packages "${missing[@]}"
}

install_packages() {
  local as_root=() had_policy=0 had_epmd=0 status=0 package
  command -v apt-get >/dev/null || die "please install $*: this system has no apt-get to do it with"
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "please install $* as root: apt-get install $*"
    as_root=(sudo)
  fi
  say "installing $*"
  # Packages must not start system services; exit code 101 forbids it.
  if [[ -e /usr/sbin/policy-rc.d ]]; then
    had_policy=1
  else
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee /usr/sbin/policy-rc.d >/dev/null
    "${as_root[@]}" chmod 755 /usr/sbin/policy-rc.d
  fi
  port_is_taken 4369 && had_epmd=1
  {
    "${as_root[@]}" apt-get update -q &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
  } >&2 9>&- || status=$?
  ((had_policy)) || "${as_root[@]}" rm -f /usr/sbin/policy-rc.d
  ((status == 0)) || die "apt-get could not install $*"
  for package in "$@"; do
    # Nor shall they start at the next boot.
    if [[ -d /run/systemd/system ]]; then "${as_root[@]}" systemctl disable --quiet "${package/%mariadb-server/mariadb}" || true; fi
  done
  # RabbitMQ's installation leaves Erlang's port mapper behind; it refuses to go while somebody uses it.
  ((had_epmd)) || epmd -kill >/dev/null 2>&1 || true
}

# Debian's wrapper in PATH insists on the system's directories and user; the script behind it does not.
rabbitmq_program() {
  if [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]]; then
    printf '%s\n' /usr/lib/rabbitmq/bin/rabbitmq-server
  else
    command -v rabbitmq-server
  fi
}

# --- stores

# Servers that refuse to run as root unless told to.
root_user() { if ((EUID == 0)); then printf '%s\n' --user=root; fi; }

start_redis() {
  choose_port redis "${REDIS_PORT:-}"
  REDIS_URL=redis://127.0.0.1:$PORT/
  mkdir -p "$RUN_DIR/redis"
  # A changed title would overwrite the environment that carries the mark.
  pid_of redis >/dev/null || start_part redis redis-server --port "$PORT" --bind 127.0.0.1 --dir "$RUN_DIR/redis" --daemonize no \
    --appendonly yes --appendfsync everysec --save '' --maxmemory-policy noeviction --stream-node-max-entries 10 --set-proc-title no
  wait_for redis 60 redis_answers "$PORT"
}

redis_answers() { [[ $(printf 'PING\r\n' | tcp_first_bytes "$1" 5) == +PONG ]]; }

start_mariadb() {
  choose_port mariadb "${MARIADB_PORT:-}"
  DATABASE_URL=mysql://root@127.0.0.1:$PORT/likes
  local dir=$RUN_DIR/mariadb log_size=--innodb-log-file-size=256M
  mkdir -p "$dir"
  if [[ ! -d $dir/data ]]; then
    rm -rf "$dir/unfinished"
    # shellcheck disable=SC2046 # empty when there is nothing to say
    # A server that starts deletes all temporary tables in its directory for them, those of other servers too.
    TMPDIR=$dir mariadb-install-db --no-defaults --datadir="$dir/unfinished" --auth-root-authentication-method=normal --force \
      --skip-name-resolve --skip-test-db "$log_size" $(root_user) >"$dir/install.log" 2>&1 9>&- ||
      die "mariadb-install-db failed; see $dir/install.log"
    mv "$dir/unfinished" "$dir/data"
  fi
  # The socket is relative to the data directory: its path is limited to 107 bytes.
  # shellcheck disable=SC2046
  pid_of mariadb >/dev/null || start_part mariadb mariadbd --no-defaults --datadir="$dir/data" --port="$PORT" --bind-address=127.0.0.1 \
    --socket=mariadb.sock --pid-file="$dir/mariadbd.pid" --tmpdir="$dir" --skip-name-resolve --skip-log-bin "$log_size" \
    --innodb-buffer-pool-size=512M --innodb-flush-log-at-trx-commit=1 --character-set-server=utf8mb4 \
    --max-connections=300 --innodb-use-native-aio=0 $(root_user)
  wait_for mariadb 90 mariadb_client "$PORT" --execute 'CREATE DATABASE IF NOT EXISTS likes CHARACTER SET utf8mb4'
}

# mariadb_client PORT ARGUMENTS...
mariadb_client() {
  local port=$1
  shift
  mariadb --no-defaults --protocol=TCP --skip-ssl --connect-timeout=5 --host=127.0.0.1 --port="$port" --user=root "$@"
}

start_rabbitmq() {
  choose_port rabbitmq "${AMQP_PORT:-}"
  local port=$PORT dir=$RUN_DIR/rabbitmq dist epmd
  AMQP_URL=amqp://guest:guest@127.0.0.1:$port/%2f
  # It may have been started, and have given no answer in time.
  if pid_of rabbitmq >/dev/null; then
    wait_for rabbitmq 120 rabbitmq_answers "$port"
    return
  fi
  choose_port rabbitmq_dist ''
  dist=$PORT
  choose_port rabbitmq_epmd ''
  epmd=$PORT
  mkdir -p "$dir"
  printf '[].\n' >"$dir/enabled_plugins"
  : >"$dir/rabbitmq-env.conf"
  cat >"$dir/rabbitmq.conf" <<'CONF'
disk_free_limit.absolute = 100MB
vm_memory_high_watermark.absolute = 1GB
raft.wal_max_size_bytes = 64000000
log.console.level = info
CONF
  # "Input allowed" makes the script exec the virtual machine, so that signals reach it and not a shell.
  start_part rabbitmq env HOME="$dir" RABBITMQ_CONF_ENV_FILE="$dir/rabbitmq-env.conf" \
    RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf" RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins" \
    RABBITMQ_NODENAME=likes@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port" \
    RABBITMQ_DIST_PORT="$dist" RABBITMQ_MNESIA_BASE="$dir/data" RABBITMQ_LOG_BASE="$dir" RABBITMQ_LOGS=- \
    ERL_EPMD_PORT="$epmd" ERL_EPMD_ADDRESS=127.0.0.1 ERL_CRASH_DUMP_SECONDS=0 RABBITMQ_ALLOW_INPUT=true \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-noinput +B i +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}' \
    "$(rabbitmq_program)"
  wait_for rabbitmq 120 rabbitmq_answers "$port"
}

# rabbitmq_ctl ARGUMENTS...: what an administrator of the broker does.
rabbitmq_ctl() {
  local dir=$RUN_DIR/rabbitmq program=/usr/lib/rabbitmq/bin/rabbitmqctl
  [[ -x $program ]] || program=rabbitmqctl
  env HOME="$dir" RABBITMQ_CONF_ENV_FILE="$dir/rabbitmq-env.conf" RABBITMQ_NODENAME=likes@localhost \
    ERL_EPMD_PORT="$(sed -n 's/^rabbitmq_epmd=//p' "$RUN_DIR/ports")" "$program" "$@"
}

# The answer to a protocol header is a method frame, type 1.
rabbitmq_answers() { [[ $(printf 'AMQP\x00\x00\x09\x01' | tcp_first_bytes "$1" 1) == $'\x01' ]]; }

# tcp_first_bytes PORT COUNT: sends standard input, prints the first bytes of the answer.
tcp_first_bytes() (
  exec 3<>"/dev/tcp/127.0.0.1/$1"
  cat >&3
  timeout 5 head -c "$2" <&3
)

# --- services

# start_service NAME VARIABLE=VALUE... -- COMMAND...: (re)starts it if it does not run, or runs with other settings.
start_service() {
  local name=$1 settings=() stamp
  shift
  while [[ $1 != -- ]]; do
    settings+=("$1")
    shift
  done
  shift
  # A digest, because settings may hold passwords.
  stamp=$({ stat -c '%i %Y' "$1"; printf '%s\n' "${settings[@]}" "$@"; } | sha256sum)
  if pid_of "$name" >/dev/null; then
    [[ $(cat "$RUN_DIR/$name.stamp" 2>/dev/null) == "$stamp" ]] && return
    say "restarting $name: its program or its settings have changed"
    stop_part "$name" 40
  fi
  start_part "$name" env "${settings[@]}" "$@"
  printf '%s\n' "$stamp" >"$RUN_DIR/$name.stamp"
}

# http_get PORT PATH: prints the answer with its headers; fails unless the status is 200.
http_get() (
  exec 3<>"/dev/tcp/127.0.0.1/$1"
  printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' "$2" >&3
  answer=$(timeout 10 cat <&3 | tr -d '\0')
  printf '%s\n' "$answer"
  [[ $answer == HTTP/1.?' 200'* ]]
)
