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
"$work/prefix/bin/cohort" train job.toml --plugin build/libswish_plugin.so --plugin "$work"/prefix/lib/cohort/cohort_debug.so \
  --set train.device=DEBUG:0 --set train.max_steps=3 --set train.directory="$work/debug" >/dev/null
# Nothing may point back into the build.
! grep -r "$build" "$work/prefix/lib/cmake" || { echo "the installed package names the build folder" >&2; exit 1; }

# The model in README.md, built and run as the page says.
awk '/^```cpp/ { on = 1; next } /^```/ { on = 0 } on' "$source/README.md" >my_net.cpp
g++ -std=c++20 -O1 -Wall -Wextra -Werror -shared -fPIC my_net.cpp -o my_net.so -I "$work/prefix/include"
"$work/prefix/bin/cohort" train "$source/jobs/synthetic.toml" --plugin my_net.so --set 'model={type="my_net", hidden=128}' \
  --set train.directory="$work/readme" >"$work/readme.log"
accuracy_above "$work/readme.log" 0.5
