# What quickstart and check share; sourced by bash. say prints what happens next, install_missing brings Debian packages.

BUILD_PACKAGES=(g++ cmake ninja-build ccache openmpi-bin libopenmpi-dev libhdf5-dev zlib1g-dev libdnnl-dev libfmt-dev
                libtomlplusplus-dev libcli11-dev libpng-dev libturbojpeg0-dev)
DATA_PACKAGES=(dataset-fashion-mnist fortunes)
TEST_PACKAGES=(libgtest-dev libgmock-dev libbenchmark-dev python3-minimal libpython3-stdlib python3-h5py python3-pil hdf5-tools
               iproute2 slurm-wlm chromium-headless-shell)

say() { printf '\n==> %s\n' "$*"; }

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Runs a command as root.
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# install_missing PACKAGE...: with apt-get, only what is missing, and with fresh package lists only if the old ones do not do.
install_missing() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    say "This is no Debian: please see to the counterparts of: $*"
    return 0
  fi
  local missing=() package
  for package in "$@"; do
    is_installed "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    echo "Missing, and there is no sudo. Please run as root: apt-get install ${missing[*]}" >&2
    return 1
  fi
  say "Installing Debian packages: ${missing[*]}"
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends "${missing[@]}")
  if as_root "${install[@]}" >"$LOG" 2>&1; then return 0; fi
  say "The package lists are out of date: apt-get update"
  as_root apt-get -o DPkg::Lock::Timeout=300 -qq update >"$LOG" 2>&1 || true
  if as_root "${install[@]}" >"$LOG" 2>&1; then return 0; fi
  tail -20 "$LOG" >&2
  echo "apt-get could not install: ${missing[*]}" >&2
  return 1
}

# configure PRESET [OPTION...]: quiet unless it fails.
configure() {
  if cmake --preset "$@" >"$LOG" 2>&1; then return 0; fi
  cat "$LOG" >&2
  echo "cmake --preset $* failed" >&2
  return 1
}

# One machine, maybe root in a container, maybe more ranks than cores. A user's own settings win.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe:-1}
export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
export HWLOC_COMPONENTS=${HWLOC_COMPONENTS:--gl}   # looks for no X displays: each is a look-up of a name
export OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle:-1}

JOBS=$(nproc)
LOG=$(mktemp)
trap 'rm -f "$LOG"' EXIT
