#!/bin/bash
# Runs a command in a clone of this repository's HEAD on a Debian 12 on which nothing is installed: what a user's fresh
# machine would say. Nothing of this machine is seen there but its network, its devices, and the compiler cache.
#
#   tests/install/bare_root.sh './check'
#   tests/install/bare_root.sh --keep DIR 'COMMAND'        DIR/root stays, and is used again with what is installed in it
#   tests/install/bare_root.sh --else-here './check'       where none can be made: on this machine, and says why at the end
#
# Needs root, a Debian mirror among this machine's package sources, and the right to mount; debootstrap is installed if it is
# missing. Exit code: the command's; 77 where this is not possible (with the reason), 1 where something else went wrong.
# All mounts belong to a namespace of the command's own, so they end with it, however it ends; so do its processes.
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
suite=bookworm

usage() { echo "usage: $0 [--keep DIR] [--else-here] 'COMMAND'" >&2; exit 2; }
keep='' else_here=no
while [ $# -gt 1 ]; do
  case $1 in
    --keep) [ $# -gt 2 ] || usage; mkdir -p "$2"; keep=$(realpath "$2"); shift 2 ;;
    --else-here) else_here=yes; shift ;;
    *) usage ;;
  esac
done
[ $# = 1 ] && [[ $1 != -* ]] || usage
command=$1

say() { printf '\n==> %s\n' "$*"; }

# This machine cannot do it.
not_possible() {
  if [ $else_here = no ]; then echo "$0: not possible here: $*" >&2; exit 77; fi
  say "No bare root here ($*): on this machine itself"
  cd "$repository"
  local status=0
  bash -c "$command" || status=$?
  say "This was not in a bare root, but on this machine with what it has: $*"
  exit $status
}

[ "$(id -u)" = 0 ] || not_possible "it takes root"
folder=${keep:-$(mktemp -d "${TMPDIR:-/tmp}/bare-root-XXXXXX")}
root=$folder/root
running=''
# No mount is seen out here. What is still ending in the namespaces may write a last file while they are removed.
remove() {
  [ -z "$running" ] || { kill -KILL "$running" && wait "$running"; } 2>/dev/null || true
  [ -n "$keep" ] || rm -rf --one-file-system "$folder" 2>/dev/null || { sleep 2; rm -rf --one-file-system "$folder"; }
}
trap remove EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# A shell heeds a signal at once only while what it waits for is in the background.
isolated() {
  local status=0
  setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child "$@" <&0 & running=$!
  wait "$running" || status=$?
  running=''
  return $status
}
probe='mount -t tmpfs none "$0" && cd "$0" && mkdir proc && mount -t proc none proc && pivot_root . .'
isolated bash -c "$probe" "$folder" >"$folder/log" 2>&1 || not_possible "no right to mount: $(cat "$folder/log")"

# The archives of the suite among this machine's package sources, as one-line entries. apt reads both of their formats.
archives() {
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u |
    while read -r address release component; do
      case $release in $suite | $suite-updates | $suite-security) ;; *) continue ;; esac
      [ "$component" = main ] || continue
      /usr/lib/apt/apt-helper -o Acquire::Retries=1 download-file "${address}dists/$release/InRelease" "$folder/InRelease" \
        >/dev/null 2>&1 || continue
      ! grep -q '^Origin: Debian$' "$folder/InRelease" || echo "deb $address $release main"
    done
}

# Debian's minimal system, and how this machine reaches the network.
make_root() {
  local sources mirror
  sources=$(archives)
  mirror=$(awk -v suite=$suite '$3 == suite { print $2; exit }' <<<"$sources")
  [ -n "$mirror" ] || not_possible "none of the package sources is a Debian mirror with $suite that answers"
  command -v debootstrap >/dev/null || apt-get -qq install -y --no-install-recommends debootstrap >"$folder/log" 2>&1 ||
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends debootstrap; } >"$folder/log" 2>&1 ||
    not_possible "debootstrap cannot be installed: $(tail -1 "$folder/log")"
  say "A bare Debian from $mirror"
  rm -rf --one-file-system "$root"
  eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
  export http_proxy https_proxy
  isolated debootstrap --variant=minbase $suite "$root" "$mirror" >"$folder/log" 2>&1 ||
    { tail -5 "$folder/log" "$root/debootstrap/debootstrap.log" >&2; exit 1; }
  echo "$sources" >"$root/etc/apt/sources.list"
  apt-config dump --no-empty --format '%f "%v";%n' Acquire | grep -v IndexTargets >"$root/etc/apt/apt.conf.d/90machine"
  if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
    install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
  fi
  echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/no-sync"   # nobody needs it after a power cut
  touch "$folder/made"
}
[ -e "$folder/made" ] || make_root
cp /etc/resolv.conf "$root/etc/resolv.conf"
hostname >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$(hostname)" >"$root/etc/hosts"   # as Debian's installer writes it

checkout=/root/cohort
rm -rf --one-file-system "$root$checkout"
git -c safe.directory='*' clone -q "$repository" "$root$checkout"

# The compiler cache with its settings: a smaller limit of another configuration would empty it.
cache=${CCACHE_DIR:-${HOME:-/root}/.cache/ccache}
mkdir -p "$cache" "$root/root/.cache/ccache" "$root/root/.config/ccache"
settings=${XDG_CONFIG_HOME:-${HOME:-/root}/.config}/ccache/ccache.conf
[ ! -e "$settings" ] || cp "$settings" "$root/root/.config/ccache/"
variables=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}"
           CCACHE_DIR=/root/.cache/ccache)
while read -r name; do
  case $name in CI) variables+=("$name=${!name}") ;; CCACHE_DIR) ;; CCACHE_*) variables+=("$name=${!name}") ;; esac
done < <(compgen -e)

# Process 1 of the namespaces. The root becomes that of the mount namespace, because who enters that namespace (nsenter does,
# to run something on one of several hosts) would leave a mere chroot. /dev/shm is its own: names of shared memory have process
# numbers in them, which begin anew here.
within() {
  set -euo pipefail
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
  mount --bind "$cache" "$root/root/.cache/ccache"
  cd "$root"
  pivot_root . .
  umount -l .
  cd "$checkout"
  env -i "${variables[@]}" bash -c "$command"
}
say "In a bare Debian: $command"
isolated bash -c "$(declare -f within); $(declare -p root cache checkout variables command); within"
