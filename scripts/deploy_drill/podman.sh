# Podman with everything that it keeps in a directory of its own. Sourced by deploy_drill.sh.

COMPOSE_VERSION=1.6.0

# use_directory DIRECTORY: for all that is made; images of the cache are only read.
use_directory() {
  WORK=$1
  export CONTAINERS_CONF=$WORK/containers.conf CONTAINERS_STORAGE_CONF=$WORK/storage.conf
  export CONTAINERS_REGISTRIES_CONF=$WORK/registries.conf TMPDIR=$WORK/tmp
  export BUILDAH_ISOLATION=chroot
  # Without systemd nobody would run the checks of health; here the drill runs them itself.
  export DISABLE_HC_SYSTEMD=true
  [[ -e $CONTAINERS_STORAGE_CONF ]] && return
  mkdir -p "$WORK"/{tmp,networks,libpod,logs}
  # Podman's own limits are above those that a caller may raise to who is in a container himself.
  cat >"$CONTAINERS_CONF" <<CONF
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "$WORK/libpod"
[network]
network_config_dir = "$WORK/networks"
CONF
  # A store of its own for what is made; that of the cache is beside it, so that nothing need be copied out of it.
  storage_conf "$WORK/storage" "$WORK/run" >"$CONTAINERS_STORAGE_CONF"
  if [[ -n $cache ]]; then
    printf '[storage.options]\nadditionalimagestores = ["%s"]\n' "$cache/images" >>"$CONTAINERS_STORAGE_CONF"
    storage_conf "$cache/images" "$WORK/run-cache" >"$WORK/cache.conf"
  fi
  # Names without a host are those of images made here; nothing is fetched.
  printf 'unqualified-search-registries = []\n[aliases]\n' >"$CONTAINERS_REGISTRIES_CONF"
}

storage_conf() { printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' "$1" "$2"; }

# in_cache PODMAN'S ARGUMENTS...: the store of the cache, to be written. What Podman knows of containers there are none of would bring it
# back to the directory of the drill that was first.
in_cache() {
  rm -rf "$cache/images/libpod"
  CONTAINERS_STORAGE_CONF=$WORK/cache.conf podman "$@"
}

install_tools() {
  local missing=() tool
  for tool in podman:podman buildah:buildah runc:runc netavark:netavark aardvark-dns:aardvark-dns iptables:iptables catatonit:catatonit \
    debootstrap:debootstrap redis-cli:redis-tools mariadb:mariadb-client strip:binutils pgrep:procps; do
    [[ $tool == netavark:* && -x /usr/lib/podman/netavark ]] && continue
    [[ $tool == aardvark-dns:* && -x /usr/lib/podman/aardvark-dns ]] && continue
    command -v "${tool%%:*}" >/dev/null || missing+=("${tool#*:}")
  done
  # Debian has kubectl in this package; another one's will do.
  if ! command -v kubectl >/dev/null && ! command -v kustomize >/dev/null; then missing+=(kubernetes-client); fi
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  if ((${#missing[@]})); then install_packages "${missing[@]}"; fi
  VENV=${cache:-$WORK}/podman-compose-$COMPOSE_VERSION
  [[ -x $VENV/bin/podman-compose ]] && return
  python3 -m venv "$VENV"
  "$VENV/bin/pip" install --quiet --disable-pip-version-check "podman-compose==$COMPOSE_VERSION" >&2
}

# forget_the_dead: a drill that was killed has left its names where all of Podman's stores look, beside the address of a network that is
# gone: containers of the next would ask there in vain. Two at once have the same names.
forget_the_dead() {
  local names id
  for names in /run/containers/networks/aardvark-dns/interaction-sync_*; do
    [[ -e $names ]] || continue
    while read -r id _; do
      ! pgrep -f -- "conmon .*$id" >/dev/null || die "Podman runs compose.yaml on this machine already"
    done < <(sed 1d "$names")
    rm -f "$names"
  done
}

clean_up() {
  say "removing what the drill made"
  podman pod rm --all --force --time 0 >/dev/null 2>&1 || true
  podman rm --all --force --time 0 --volumes >/dev/null 2>&1 || true
  podman network prune --force >/dev/null 2>&1 || true
  # What Podman mounts onto itself, of its own store and of the cache's.
  local store
  for store in $(sed -n 's/^graphroot = "\(.*\)"/\1/p' "$WORK"/*.conf); do umount "$store/overlay" 2>/dev/null || true; done
  rm -rf --one-file-system "$WORK"
}

# start_one: whether a container runs here with a network of its own and a port, as those of compose.yaml do.
start_one() {
  local wrong=0
  podman network create drill-one >/dev/null || return
  podman run --rm --network drill-one --publish 127.0.0.1::8080 "debian:$DEBIAN-slim" true || wrong=1
  podman network rm --force drill-one >/dev/null || wrong=1
  return "$wrong"
}
