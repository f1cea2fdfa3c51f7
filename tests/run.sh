#!/usr/bin/env bash
# From a clean Debian bookworm machine to a passing test suite.
#
#   tests/run.sh                     everything that CI runs, in the order below
#   tests/run.sh PART...             only these parts
#   tests/run.sh crash --count N     the kill loops, N kills each
#   tests/run.sh gate --full         the gate's error rates and speed, with all the runs that its bar asks for
#   tests/run.sh sim --seeds N       the simulator over N seeds, from --first-seed S (default 1)
#   tests/run.sh --list              the parts
#
# Options: --count N (crash), --full (gate), --seeds N and --first-seed S (sim), --jobs N (default: all cores),
# --no-setup (skip deploy/setup.sh)
# Build trees are kept in build/, so that a second run is quick.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

declare -A about=(
  [lint]="include layers, formatting, protos, shell syntax"
  [unit]="unit tests (gcc)"
  [gate]="the gate's error rates and speed against their bar, beside peers' rules (release build)"
  [instructions]="instructions of a decision, a migrated read and a count against tests/golden (release build, gcc)"
  [integration]="whole processes on loopback (gcc)"
  [sim]="simulated fleets under faults, broken rules that must be noticed, and the fence's model (gcc)"
  [crash]="kill loops: no acknowledged change or count is lost or doubled (gcc)"
  [bench-smoke]="every benchmark runs, briefly (release build)"
  [clang]="clang's thread-safety analysis over everything, as errors"
  [tsan]="unit tests under ThreadSanitizer, for what links neither gRPC nor RocksDB"
  [ubsan]="unit and integration tests under UndefinedBehaviorSanitizer"
  [asan]="unit and integration tests under AddressSanitizer"
  [tidy]="clang-tidy over core, server and client (slow)"
)
all=(lint unit gate bench-smoke instructions sim integration crash tsan)  # what CI runs
more=(clang ubsan asan tidy)                                              # by name

list_parts() {
  local part
  for part in "${all[@]}"; do printf '%-13s %s\n' "$part" "${about[$part]}"; done
  for part in "${more[@]}"; do printf '%-13s %s; not in CI\n' "$part" "${about[$part]}"; done
}

usage() { sed -n '2,14s/^# \{0,1\}//p' "$0"; }

parts=() count=100 full='' seeds='' first_seed=1 jobs=$(nproc) setup=yes
while [ $# -gt 0 ]; do
  case $1 in
    --list) list_parts; exit 0 ;;
    --count) count=${2:?--count takes a number}; shift ;;
    --full) full=--full ;;
    --seeds) seeds=${2:?--seeds takes a number}; shift ;;
    --first-seed) first_seed=${2:?--first-seed takes a number}; shift ;;
    --jobs) jobs=${2:?--jobs takes a number}; shift ;;
    --no-setup) setup=no ;;
    -h|--help) usage; exit 0 ;;
    *) if [ -z "${about[$1]:-}" ]; then echo "tests/run.sh: no part named '$1'; see --list" >&2; exit 2; fi
       parts+=("$1") ;;
  esac
  shift
done
for number in "$count" "$jobs" "${seeds:-1}" "$first_seed"; do
  case $number in ''|*[!0-9]*|0) echo "tests/run.sh: '$number' is not a positive number" >&2; exit 2 ;; esac
done
[ ${#parts[@]} -gt 0 ] || parts=("${all[@]}")

[ "$setup" = no ] || deploy/setup.sh

build() {  # build PRESET [TARGET...]
  local preset=$1; shift
  local log; log=$(mktemp)
  cmake --preset "$preset" >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; return 1; }
  rm -f "$log"
  # Warnings are errors, so a quiet build loses nothing.
  ninja -C "build/$preset" -j "$jobs" --quiet "$@"
}

run_ctest() {  # run_ctest PRESET LABELS [ctest arguments...]
  local preset=$1 labels=$2; shift 2
  ctest --test-dir "build/$preset" --label-regex "$labels" --output-on-failure --no-tests=error -j "$jobs" "$@"
}

part_lint() {
  python3 tests/lint/layers.py --self-test
  python3 tests/lint/layers.py
  [ ! -x .deps/buf/bin/buf ] || (cd proto && ../.deps/buf/bin/buf lint)
  git ls-files '*.h' '*.cc' | xargs clang-format-14 --dry-run -Werror
  git ls-files '*.sh' .ci/run | xargs -n1 bash -n
}
part_unit() { build dev; run_ctest dev '^unit$'; }
part_gate() { build release gate_bar; build/release/tests/gate/gate_bar --threads "$jobs" $full; }
part_instructions() {
  python3 tests/bench/instructions.py --self-test
  build release decision_instructions
  python3 tests/bench/instructions.py --build build/release
}
part_sim() {
  if [ -z "$seeds" ]; then
    build dev simulation_test fence_model_test
    run_ctest dev '^sim$'
    return
  fi
  build release lockstep_sim
  # One process for each job, each with a part of the seeds.
  local each=$(((seeds + jobs - 1) / jobs)) job pids=() failed=0
  for ((job = 0; job < jobs; ++job)); do
    build/release/tests/sim/lockstep_sim --first-seed $((first_seed + job * each)) --seeds "$each" &
    pids+=($!)
  done
  for job in "${pids[@]}"; do wait "$job" || failed=1; done
  [ "$failed" -eq 0 ]
}
part_integration() {
  build dev
  # Where network namespaces can be made, the test that needs them may not be skipped.
  if [ "$(id -u)" -eq 0 ] && unshare --net --mount true 2>/dev/null; then
    export LOCKSTEP_REQUIRE_NAMESPACES=1
  else
    unset LOCKSTEP_REQUIRE_NAMESPACES
    echo "integration: no network namespace can be made here (that takes root): SKIPPED is" \
      "NetworkTest.ALinkGoesDownBetweenTwoNetworkNamespaces" >&2
  fi
  run_ctest dev '^integration$' -j 1
}
part_crash() { build dev; LOCKSTEP_CRASH_COUNT=$count run_ctest dev '^crash$' -j 1; }
part_bench-smoke() { build release lockstep_benchmarks; tests/bench/run.sh --smoke --build build/release; }
part_clang() { build clang; }
part_tsan() {
  build tsan
  # The distribution's libraries are not instrumented; their own reports would be false.
  TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1" run_ctest tsan '^unit$'
}
part_ubsan() { build ubsan; UBSAN_OPTIONS=print_stacktrace=1 run_ctest ubsan '^(unit|integration)$'; }
part_asan() { build asan; ASAN_OPTIONS=detect_stack_use_after_return=1 run_ctest asan '^(unit|integration)$'; }
part_tidy() {
  build clang
  git ls-files 'core/*.cc' 'server/*.cc' 'client/*.cc' |
    xargs -P "$jobs" -n 4 clang-tidy-14 -p build/clang --quiet
}

mkdir -p build
for part in "${parts[@]}"; do
  started=$SECONDS
  echo "== $part: ${about[$part]}"
  # Not `part || ...`: errexit would be off inside the part.
  set +e
  (set -e; "part_$part")
  status=$?
  set -e
  [ "$status" -eq 0 ] || { echo "== $part: FAILED after $((SECONDS - started)) s" >&2; exit 1; }
  echo "== $part: ok, $((SECONDS - started)) s"
done
