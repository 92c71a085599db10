#!/usr/bin/env bash
# Writes compose.images.yaml: every image of compose.yaml and of the Dockerfile by its digest. A tag names today's image, and another
# one when somebody moves it; a digest names what was looked at.
#
#   deploy/pin_images.sh [--no-pull]
#   docker compose -f deploy/compose.yaml -f deploy/compose.images.yaml up --build --detach --wait
#
# Run it again for what the tags name by then, and keep the file with your own. scripts/check_deploy.sh finds one that does not fit
# compose.yaml any more. --no-pull takes what this machine has, and only names what it has not. DOCKER names another command than
# docker. Exit code 1, and the file stays as it was, if an image cannot be pulled.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
docker=${DOCKER:-docker} pull=1
case ${1:-} in
  '') ;;
  --no-pull) pull=0 ;;
  *) printf 'unknown argument %s\n' "$1" >&2; exit 64 ;;
esac

# pin IMAGE: sets PINNED to name@sha256:..., or to nothing if this machine has none.
pin() {
  if ((pull)); then "$docker" pull --quiet "$1" >/dev/null; fi
  PINNED=$("$docker" image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$1" 2>/dev/null | grep -m 1 '@sha256:' || true)
  [[ -n $PINNED ]] || printf 'no digest of %s here\n' "$1" >&2
  if ((pull)) && [[ -z $PINNED ]]; then exit 1; fi
}

# Lines `service image`, and `service` of those that are built.
services=$(awk '
  /^[^ ]/ { inside = $1 == "services:" }
  inside && /^  [a-z-]+:/ { name = $1; sub(":", "", name) }
  inside && /^    image:/ { print name, $2 }
  inside && /^    <<:.*\*service/ { print name }' compose.yaml)
arguments=''
while read -r name image; do
  pin "$image"
  if [[ -n $PINNED ]]; then printf -v arguments '%s        %s: %s # %s\n' "$arguments" "$name" "$PINNED" "$image"; fi
done < <(sed -n 's/^ARG \([A-Z]*_IMAGE\)=/\1 /p' Dockerfile)
text='services:'
while read -r service image; do
  if [[ -n $image ]]; then
    pin "$image"
    if [[ -n $PINNED ]]; then text+=$'\n'"  $service:"$'\n'"    image: $PINNED # $image"; fi
  elif [[ -n $arguments ]]; then
    text+=$'\n'"  $service:"$'\n'"    build:"$'\n'"      args:"$'\n'"${arguments%$'\n'}"
  fi
done <<<"$services"
printf '# Written by pin_images.sh; behind each image stands the tag that it was found by.\n%s\n' "$text" >compose.images.yaml.new
mv compose.images.yaml.new compose.images.yaml
