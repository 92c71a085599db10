# Podman with everything that it keeps in a directory of its own. Sourced by deploy_drill.sh.

use_directory() {
  WORK=$1
  export CONTAINERS_CONF=$WORK/containers.conf CONTAINERS_STORAGE_CONF=$WORK/storage.conf
  export CONTAINERS_REGISTRIES_CONF=$WORK/registries.conf TMPDIR=$WORK/tmp
  export BUILDAH_ISOLATION=chroot
  # Without systemd nobody would run the checks of health; here the drill runs them itself.
  export DISABLE_HC_SYSTEMD=true
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
  cat >"$CONTAINERS_STORAGE_CONF" <<CONF
[storage]
driver = "overlay"
graphroot = "$WORK/storage"
runroot = "$WORK/run"
CONF
  # Names without a host are those of images made here; nothing is fetched.
  printf 'unqualified-search-registries = []\n[aliases]\n' >"$CONTAINERS_REGISTRIES_CONF"
}

install_tools() {
  local missing=() tool
  for tool in podman:podman buildah:buildah runc:runc netavark:netavark aardvark-dns:aardvark-dns iptables:iptables catatonit:catatonit \
    debootstrap:debootstrap redis-cli:redis-tools mariadb:mariadb-client; do
    [[ $tool == netavark:* && -x /usr/lib/podman/netavark ]] && continue
    [[ $tool == aardvark-dns:* && -x /usr/lib/podman/aardvark-dns ]] && continue
    command -v "${tool%%:*}" >/dev/null || missing+=("${tool#*:}")
  done
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
  if ((${#missing[@]})); then install_packages "${missing[@]}"; fi
  python3 -m venv "$WORK/venv"
  "$WORK/venv/bin/pip" install --quiet --disable-pip-version-check podman-compose==1.6.0 >&2
}

clean_up() {
  say "removing what the drill made"
  podman pod rm --all --force --time 0 >/dev/null 2>&1 || true
  podman rm --all --force --time 0 --volumes >/dev/null 2>&1 || true
  podman network prune --force >/dev/null 2>&1 || true
  umount "$WORK"/storage/overlay 2>/dev/null || true
  rm -rf --one-file-system "$WORK"
}
