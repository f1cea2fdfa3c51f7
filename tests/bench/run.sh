#!/usr/bin/env bash
# Runs the benchmarks: one JSON line per figure on standard output, a table of all of them at the end on standard error.
#
#   tests/bench/run.sh                   all parts
#   tests/bench/run.sh NAME...           only these parts
#   tests/bench/run.sh --list            the parts
#
# Options:
#   --build DIR    where the programs were built (default: build/release)
#   --rounds N     interleaved rounds (default: 20)
#   --smoke        everything very briefly: fails only if a program crashes or prints no valid JSON
#
# What the fields of a line mean is said in figures.py, how to read the figures in docs/performance.md.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
figures="$root/tests/bench/figures.py"

declare -A about=(
  [decision]="decisions in process, beside a hash and a load"
  [gate]="the evidence of one metric in one bucket, beside the transcendental calls it can't avoid"
  [migrator]="a Migrator beside the service's own code, and counting a comparison"
  [peers]="a migrated read and a decision, beside flag libraries in Node (installs them with npm)"
  [fanout_1000]="a publish on its way to 1,000 subscribers, each over a connection of its own"
  [fanout_10000]="the same to 10,000"
  [ingest]="telemetry made durable, beside a bare echo and RocksDB alone"
  [admin]="an administrator's write, beside a bare echo and one synced write"
  [fanout_large]="a publish of 4 KB on its way to 1,000 subscribers"
  [fanout_telemetry]="the same to 1,000 while telemetry is at full load"
  [route]="unary and batch decisions over gRPC on all cores, beside a bare echo"
  [route_pinned]="the same with client and servers on one core: for CPU time per call"
  [gate_tick]="a tick of the gate over 10,000 migrations of ten checks, and over fewer"
  [restart]="the server's start with many migrations and a long audit log"
  [retention]="the database on disk under a constant load, hour after hour, when evidence is kept for one"
  [growth]="what one call costs as migrations, instances and pinned keys grow"
  [route_mtls]="unary and batch decisions with mutual TLS, on one core"
)
all=(decision gate fanout_1000 fanout_10000 route route_pinned ingest admin gate_tick restart retention growth fanout_telemetry route_mtls fanout_large migrator peers)

parts=() smoke=no build=$root/build/release rounds=20 decision_seconds=0.05 load_seconds=0.5
fanout_divisor=1 growth_divisor=1 peer_calls=4000
while [ $# -gt 0 ]; do
  case $1 in
    --list) for part in "${all[@]}"; do printf '%-16s %s\n' "$part" "${about[$part]}"; done; exit 0 ;;
    --build) build=${2:?--build takes a directory}; shift ;;
    --rounds) rounds=${2:?--rounds takes a number}; shift ;;
    --smoke) smoke=yes rounds=2 decision_seconds=0.001 load_seconds=0.1
             fanout_divisor=100 growth_divisor=100 peer_calls=50 ;;
    -h|--help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) if [ -z "${about[$1]:-}" ]; then echo "tests/bench/run.sh: no part named '$1'; see --list" >&2; exit 2; fi
       parts+=("$1") ;;
  esac
  shift
done
case $rounds in ''|*[!0-9]*|0) echo "tests/bench/run.sh: '$rounds' is not a positive number" >&2; exit 2 ;; esac
[ ${#parts[@]} -gt 0 ] || parts=("${all[@]}")

for program in decision_benchmark durable_load fanout_load gate_benchmark gate_tick_load growth_load migrator_benchmark restart_load retention_load route_load; do
  [ -x "$build/tests/bench/$program" ] && continue
  echo "tests/bench/run.sh: no $program in $build; build it first:" \
       "cmake --preset release && ninja -C build/release lockstep_benchmarks" >&2
  exit 1
done

# The peers' packages, exact versions checked by the digests in the lock file; nothing of them runs at set-up.
peers=$root/tests/bench/peers peer_modules=$root/build/peers
peers_installed() { cmp -s "$peers/package-lock.json" "$peer_modules/installed.json"; }
install_peers() {
  peers_installed && return
  command -v npm >/dev/null || { echo "tests/bench/run.sh: npm is not installed; run deploy/setup.sh" >&2; return 1; }
  mkdir -p "$peer_modules"
  cp "$peers/package.json" "$peers/package-lock.json" "$peer_modules"
  (cd "$peer_modules" && npm ci --silent --ignore-scripts --no-audit --no-fund >&2) || {
    echo "tests/bench/run.sh: npm can't install the peers: is its registry in reach? (cd $peer_modules && npm ci" \
         "says more; all other parts run without it)" >&2
    return 1
  }
  cp "$peers/package-lock.json" "$peer_modules/installed.json"
}

measure() {  # measure PART: what the programs print
  local program="$build/tests/bench"
  case $1 in
    decision|gate|migrator)
      for _ in $(seq "$rounds"); do
        "$program/${1}_benchmark" --benchmark_format=json --benchmark_min_time="$decision_seconds" || return 1
      done ;;
    fanout_telemetry)
      "$program/fanout_load" --rounds "$rounds" --subscribers "$((1000 / fanout_divisor))" --telemetry ;;
    fanout_large)
      "$program/fanout_load" --rounds "$rounds" --subscribers "$((1000 / fanout_divisor))" --pinned-keys 100 ;;
    peers)
      install_peers || return 1
      for _ in $(seq "$rounds"); do
        "$program/migrator_benchmark" --benchmark_format=json --benchmark_min_time="$decision_seconds" \
          --benchmark_filter='^(Read/DUAL_WRITE|ReadChecked.*|RouteByHandle)$' || return 1
        node "$peers/peers.cjs" --modules "$peer_modules" --calls "$peer_calls" || return 1
      done ;;
    fanout_*) "$program/fanout_load" --rounds "$rounds" --subscribers "$((${1#fanout_} / fanout_divisor))" ;;
    ingest|admin) "$program/durable_load" --part "$1" --pairs "$rounds" --seconds "$load_seconds" ;;
    gate_tick) "$program/gate_tick_load" --rounds "$rounds" --divide "$growth_divisor" ;;
    retention) "$program/retention_load" --rounds "$rounds" --divide "$growth_divisor" ;;
    growth) "$program/growth_load" --rounds "$rounds" --divide "$growth_divisor" ;;
    restart)
      "$program/restart_load" --rounds "$rounds" --migrations "$((10000 / growth_divisor))" \
        --audit-entries "$((1000000 / growth_divisor))" --buckets "$((518400 / growth_divisor))" ;;
    route) "$program/route_load" --pairs "$rounds" --seconds "$load_seconds" ;;
    route_pinned)
      "$program/route_load" --pairs "$rounds" --seconds "$load_seconds" --client-cores 0 --server-cores 0 ;;
    route_mtls)
      "$program/route_load" --pairs "$rounds" --seconds "$load_seconds" --client-cores 0 --server-cores 0 --mtls ;;
  esac
}

[ "$smoke" = no ] || python3 "$figures" --self-test
scratch=$(mktemp -d)
touch "$scratch/figures"  # a part may be skipped
trap 'rm -rf "$scratch"' EXIT
echo "machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores;" \
     "load average at the start: $(cut -d' ' -f1-3 /proc/loadavg)" >&2
for part in "${parts[@]}"; do
  echo "== $part: ${about[$part]}" >&2
  if [ "$part" = peers ] && [ "$smoke" = yes ] && ! peers_installed; then
    echo "skipped: its packages aren't installed, and --smoke uses no network (tests/bench/run.sh peers installs them)" >&2
    continue
  fi
  # The benchmark library's remarks on the machine come on standard error; they matter only when something failed.
  measure "$part" >"$scratch/$part" 2>"$scratch/errors" ||
    { cat "$scratch/errors" >&2; echo "tests/bench/run.sh: $part failed" >&2; exit 1; }
  python3 "$figures" "$part" <"$scratch/$part" | tee -a "$scratch/figures"
done
python3 "$figures" table <"$scratch/figures" >&2
