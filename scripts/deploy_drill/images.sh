# Images: Debian, the stores from its packages, ours. Sourced by deploy_drill.sh.

DEBIAN=bookworm

# prepare_tree: a copy of deploy/, so that secrets and changes are not made in the checkout.
prepare_tree() {
  cp -a "$ROOT/deploy" "$WORK/deploy"
  rm -rf "$WORK/deploy/secrets"
  "$WORK/deploy/make_secrets.sh" >/dev/null
}

make_base() {
  local root=$WORK/base name=debian:$DEBIAN-slim
  if restore_image "$name"; then return; fi
  debootstrap --variant=minbase $DEBIAN "$root" >"$WORK/logs/debootstrap.log" 2>&1 || return
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/usr/share/{doc,man,locale}/*
  tar -C "$root" --one-file-system -c . | podman import --quiet - "$name" >/dev/null || return
  rm -rf "$root"
  save_image "$name"
  detail "$(size_of "$name")"
}

# The names are those of compose.yaml.
make_stores() {
  local name kind made=()
  for name in $(sed -n 's/^    image: \([a-z].*\)/\1/p' "$WORK/deploy/compose.yaml"); do
    kind=${name%%:*}
    kind=${kind##*/}
    case $kind in
      prometheus) ((short)) && continue ;;&
      mysql | redis | rabbitmq | prometheus)
        restore_image "$name" || {
          build_image "$name" "$PARTS/images/$kind" || return
          save_image "$name"
        }
        made+=("$kind $(size_of "$name")")
        ;;
      interaction-sync) ;;
      *) not_run "$name: Debian has no package of it" ;;
    esac
  done
  detail "$(IFS=,; printf '%s' "${made[*]}")"
}

# Release 0.1.0 refuses every schema that is newer than its own, so until there is another release this commit stands for the one
# before: its programs go on beside newer schemas.
PREVIOUS=84db6a8d2c75

# previous_programs: sets `previous` to programs of PREVIOUS, built once where there is a cache.
previous_programs() {
  previous=${cache:-$WORK}/programs-$PREVIOUS
  [[ -x $previous/syncctl && -s $previous/event_driven_sync.yml ]] && return
  local checkout=$WORK/previous built=$WORK/previous/target/$PROFILE name
  git -C "$ROOT" worktree add --quiet --detach "$checkout" "$PREVIOUS"
  (
    ROOT=$checkout
    unset CARGO_TARGET_DIR
    build_programs
  )
  mkdir -p "$previous"
  for name in interaction-server sync-consumer consistency-checker syncctl standalone; do
    strip --strip-debug -o "$previous/$name" "$built/$name"
  done
  cp "$checkout/deploy/config/event_driven_sync.yml" "$previous/event_driven_sync.yml"
  git -C "$ROOT" worktree remove --force "$checkout"
}

# make_image TAG DIRECTORY: ours, with programs that are there already.
make_image() {
  local name=interaction-sync:$1 context=$WORK/context
  rm -rf "$context" && mkdir -p "$context/deploy" "$context/programs"
  cp -a "$ROOT/deploy/config" "$context/deploy/config"
  local program
  for program in interaction-server sync-consumer consistency-checker syncctl standalone; do
    strip --strip-debug -o "$context/programs/$program" "$2/$program" 2>/dev/null || cp "$2/$program" "$context/programs/" || return
  done
  buildah bud --quiet --format docker --target ready --build-context programs="$context/programs" --tag "$name" \
    --file "$ROOT/deploy/Dockerfile" "$context" >"$WORK/logs/image.log" 2>&1 || { tail -20 "$WORK/logs/image.log" >&2; return 1; }
  rm -rf "$context"
  detail "$(size_of "$name")"
}

build_image() {
  buildah bud --quiet --format docker --tag "$1" "$2" >"$WORK/logs/build-${2##*/}.log" 2>&1 ||
    { tail -20 "$WORK/logs/build-${2##*/}.log" >&2; return 1; }
}

size_of() { podman image inspect --format '{{.Size}}' "$1" | awk '{ printf "%.0f MB", $1 / 1e6 }'; }

# archive_of NAME: another one where what it is made of has changed.
archive_of() {
  local kind=${1%%:*} made_of
  kind=${kind##*/}
  made_of=$(cat "$PARTS/images/${kind/drill-machine/systemd}"/* 2>/dev/null | sha256sum | cut -c1-12)
  printf '%s/%s.%s.tar\n' "$cache" "$(tr '/:' '__' <<<"$1")" "$made_of"
}
restore_image() {
  [[ -n $cache && -s $(archive_of "$1") ]] || return 1
  podman load --quiet --input "$(archive_of "$1")" >/dev/null && detail "from the cache, $(size_of "$1")"
}
save_image() {
  [[ -n $cache ]] || return 0
  podman save --quiet --output "$(archive_of "$1").new" "$1" && mv "$(archive_of "$1").new" "$(archive_of "$1")"
}
