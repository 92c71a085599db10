#!/usr/bin/env bash
# Rehearses deploy/ on one Debian machine, as root, without a registry of images: builds the image and starts what compose.yaml
# and kubernetes/ describe with Podman, and the systemd units in a container of their own. Looks at each from outside.
#
#   scripts/deploy_drill.sh [--short] [--compile] [--programs DIR] [--previous DIR | --same] [--cache DIR] [--images] [--keep]
#
# --short     compose only, with fewer likes and one loss of stores, without Prometheus, and builds no programs: those of the release
#             before are in --cache, or are this one's.
# --compile   the image compiles its programs itself, in the stages of the Dockerfile that do that: takes as long as PROFILE=dist does.
# --programs  programs to take instead of building optimized ones (target/dist).
# --previous  the programs of the release before: the upgrade begins with them, and goes back to them. Without it they are those
#             of PREVIOUS, built with cargo in a checkout of their own.
# --same      instead: the release before is this one, under another name.
# --cache     keeps the stores' images there, and the programs of PREVIOUS, so that the next drill need not make them.
# --images    makes the stores' images in --cache, those of --short with it, and starts one container, to see that it can.
# --keep      leaves everything where it is, and says where; scripts/deploy_drill.sh --clean DIR removes it.
#
# The stores are Debian's, in images that are called as the files call them. Needs root, about 4 GB below WORK_DIR (/var/tmp; 20 with
# --compile), and apt and PyPI for what is not installed yet. Everything else goes away at the end: images, containers, networks, files.
# Exit code 1 if a step failed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
PARTS=$ROOT/scripts/deploy_drill
source "$PARTS/report.sh"
source "$PARTS/podman.sh"
source "$PARTS/images.sh"
source "$PARTS/system.sh"
source "$PARTS/accounts.sh"
source "$PARTS/losses.sh"
source "$PARTS/sizes.sh"
source "$PARTS/compose.sh"
source "$PARTS/kubernetes.sh"
source "$PARTS/systemd.sh"

short=0 keep=0 same=0 compile=0 images=0 programs='' previous='' cache='' clean=''
while (($#)); do
  case $1 in
    --short) short=1 ;;
    --keep) keep=1 ;;
    --same) same=1 ;;
    --compile) compile=1 ;;
    --images) images=1 ;;
    --programs | --previous | --cache | --clean)
      (($# > 1)) || die "$1 needs a directory"
      [[ $1 == --cache ]] && mkdir -p "$2"
      [[ -d $2 ]] || die "there is no directory $2"
      printf -v "${1#--}" '%s' "$(cd "$2" && pwd)"
      shift
      ;;
    -h | --help)
      sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
      exit
      ;;
    *) die "unknown argument $1; --help says more" ;;
  esac
  shift
done
((EUID == 0)) || die "must be run as root: it makes images and networks"

if [[ -n $clean ]]; then
  [[ -e $clean/deploy-drill ]] || die "$clean was not made by this script"
  use_directory "$clean"
  clean_up
  exit
fi

use_directory "$(mktemp -d "${WORK_DIR:-/var/tmp}/deploy-drill.XXXXXX")"
touch "$WORK/deploy-drill"
finish() {
  local code=$?
  if ((keep)); then say "kept in $WORK; scripts/deploy_drill.sh --clean $WORK removes it"; else clean_up; fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

((!images)) || [[ -n $cache ]] || die "--images needs --cache"
# The same programs as an image takes.
if ((images)); then
  same=1
elif [[ -z $programs ]]; then
  PROFILE=dist build_programs
  programs=$(PROFILE=dist programs_dir)
fi
((images)) || [[ -x $programs/syncctl ]] || die "$programs has no syncctl"

if ((!same)) && [[ -z $previous ]]; then previous_programs; fi

install_tools
forget_the_dead
prepare_tree
step "base image" make_base
step "store images" make_stores
if ((images)); then
  step "a container starts" start_one
  print_report
  exit
fi
if ((compile)); then step "image, compiled by its own stages" compile_image new; fi
# What comes after a failure is worth knowing, too.
if ((!compile || FAILED)); then step "image of programs that are there" make_image new "$programs"; fi
if ((!same)); then step "image of the release before" make_image old "$previous"; else podman tag interaction-sync:new interaction-sync:old; fi

drill_compose
if ((!short)); then
  drill_kubernetes
  drill_systemd
fi
print_report
