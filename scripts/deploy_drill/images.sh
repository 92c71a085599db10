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
  # So that there is a store to be read.
  [[ -z $cache ]] || in_cache image exists "$name" || true
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
# before: its programs go on beside newer schemas, and know fewer migrations than today's.
PREVIOUS=e54729384425

# previous_programs: sets `previous` to programs of PREVIOUS, built once where there is a cache. The short form builds nothing: without
# them this release stands for the one before, too.
previous_programs() {
  previous=${cache:-$WORK}/programs-$PREVIOUS
  [[ -x $previous/syncctl && -s $previous/event_driven_sync.yml ]] && return
  if ((short)); then
    same=1
    not_run "the release before: a whole drill builds its programs, and keeps them in --cache"
    return
  fi
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

# compile_image TAG: ours, compiled by the stages of the Dockerfile that do that. Their image is Debian with the toolchain of this machine,
# and cargo begins with what this machine has fetched.
compile_image() {
  local name=interaction-sync:$1 rust=$WORK/rust home=${CARGO_HOME:-$HOME/.cargo} program started=$EPOCHREALTIME
  mkdir -p "$rust/toolchain" "$WORK/cargo/registry" || return
  tar -C "$(rustc --print sysroot)" --exclude=./share --exclude=./lib/rustlib/src -c . | tar -C "$rust/toolchain" -x || return
  cp "$PARTS/images/rust/Dockerfile" "$rust/" || return
  build_image "$(sed -n 's/^ARG RUST_IMAGE=//p' "$ROOT/deploy/Dockerfile")" "$rust" || return
  rm -rf "$rust"
  if [[ -d $home/registry/cache ]]; then cp -a "$home"/registry/{cache,index} "$WORK/cargo/registry/" || return; fi
  buildah bud --quiet --format docker --volume "$WORK/cargo/registry:/usr/local/cargo/registry" \
    --volume /etc/ssl/certs:/etc/ssl/certs:ro --tag "$name" --file "$ROOT/deploy/Dockerfile" "$ROOT" \
    >"$WORK/logs/compile.log" 2>&1 || { tail -20 "$WORK/logs/compile.log" >&2; return 1; }
  rm -rf "$WORK/cargo"
  for program in interaction-server sync-consumer consistency-checker syncctl standalone; do
    podman run --rm "$name" "$program" --version >/dev/null || { say "$program does not start"; return 1; }
  done
  detail "$(size_of "$name"), each program starts; $(rustc --version | cut -d' ' -f1-2), profile dist, in $(seconds_since "$started") s"
}

build_image() {
  buildah bud --quiet --format docker --tag "$1" "$2" >"$WORK/logs/build-${2##*/}.log" 2>&1 ||
    { tail -20 "$WORK/logs/build-${2##*/}.log" >&2; return 1; }
}

size_of() { podman image inspect --format '{{.Size}}' "$1" | awk '{ printf "%.0f MB", $1 / 1e6 }'; }

# made_of NAME: what its files hold; an image of other files is made again.
made_of() {
  local kind=${1%%:*}
  kind=${kind##*/}
  { cat "$PARTS/images/${kind/drill-machine/systemd}"/* 2>/dev/null || true; } | sha256sum | cut -c1-12
}
mark_of() { printf '%s/images.made/%s\n' "$cache" "$(tr '/:' '__' <<<"$1")"; }

# restore_image NAME: whether the cache has it as its files are now.
restore_image() {
  [[ -n $cache && $(cat "$(mark_of "$1")" 2>/dev/null) == "$(made_of "$1")" ]] && podman image exists "$1" &&
    detail "from the cache, $(size_of "$1")"
}

save_image() {
  [[ -n $cache ]] || return 0
  mkdir -p "$cache/images.made" && rm -f "$(mark_of "$1")"
  podman save --quiet "$1" | in_cache load --quiet >/dev/null && in_cache image prune --force >/dev/null &&
    made_of "$1" >"$(mark_of "$1")"
}
