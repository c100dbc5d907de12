#!/bin/bash
# Installs Cohort into a folder of its own, builds a copy of tests/example_project against it with find_package, and trains:
# the project's own program on two ranks, then the installed program with the project as a plug-in.
#
#   example_project.sh SOURCE_FOLDER BUILD_FOLDER MPIRUN
set -euo pipefail
source=$1 build=$2 mpirun=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/prefix" >/dev/null
cp -r "$source/tests/example_project" "$work/project"
cmake -S "$work/project" -B "$work/project/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$work/prefix" \
  ${CXX_LAUNCHER:+-DCMAKE_CXX_COMPILER_LAUNCHER="$CXX_LAUNCHER"} >/dev/null
cmake --build "$work/project/build"

cd "$work/project"
accuracy_above() {
  tee /dev/stderr <"$1" | awk -v least="$2" '$1 == "accuracy" { found = 1; good = $2 > least } END { exit !(found && good) }' ||
    { echo "expected an accuracy above $2" >&2; exit 1; }
}
"$mpirun" --oversubscribe --bind-to none -n 2 build/swish train job.toml --set train.directory="$work/own" >"$work/own.log"
accuracy_above "$work/own.log" 0.5
"$work/prefix/bin/cohort" train job.toml --plugin build/libswish_plugin.so --set train.directory="$work/plugin" >"$work/plugin.log"
accuracy_above "$work/plugin.log" 0.5
"$work/prefix/bin/cohort" list model --plugin build/libswish_plugin.so | grep -q swish_net
# Nothing may point back into the build.
! grep -r "$build" "$work/prefix/lib/cmake" || { echo "the installed package names the build folder" >&2; exit 1; }
