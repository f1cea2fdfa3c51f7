#!/usr/bin/env bash
# The tool as deploy/demo.sh calls it, on two tiny packages: load, operation log, backfill, verification, errors.
set -euo pipefail
tool=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/a" "$dir/b"

city() { printf '{"name":"%s","lat":"%s","lng":"1.5","country":"AD","admin1":"06","admin2":""}' "$1" "$2"; }
echo "[$(city A 1),$(city B 2),$(city C 3)]" >"$dir/a/cities.json"
echo "[$(city A 1),$(city C 4),$(city D 5)]" >"$dir/b/cities.json"

# expect CODE TEXT COMMAND...: exit code and a text in stdout or stderr
expect() {
  local want=$1 text=$2 code=0 output
  shift 2
  output=$("$tool" "$@" 2>&1) || code=$?
  if [[ $code != "$want" || $output != *"$text"* ]]; then
    echo "cities_tool $*: exit $code, want $want; output does not contain '$text':" >&2
    echo "$output" >&2
    exit 1
  fi
}

legacy=$dir/legacy.db
modern=$dir/modern.db
stores=(--legacy "$legacy" --modern "$modern")
expect 0 '{"rows":3}' load --package "$dir/a" --legacy "$legacy"
expect 1 'has rows already' load --package "$dir/a" --legacy "$legacy"
expect 0 '"inserts":1,"deletes":1,"updates":1' oplog --from "$dir/a" --to "$dir/b" --out "$dir/log" --shards 2 --seed 1
[[ $(cat "$dir"/log/oplog-{0,1}-of-2.jsonl | wc -l) == 3 ]]
expect 1 'no such modern city database' verify --from "$dir/a" --expected "$dir/a" "${stores[@]}"
expect 0 '"rows_applied":3' backfill "${stores[@]}" --mapper v1
expect 1 '"rows_different":3' verify --from "$dir/a" --expected "$dir/a" "${stores[@]}"
expect 0 '"unused_admin_regions":0,"rows_by_mapper_v1":3' stats "${stores[@]}"
expect 0 '"rows_applied":3' backfill "${stores[@]}" --mapper v2 --rows-per-second 1e6 --batch-rows 2
printf '1 1 put\n' >"$dir/acks-0"
printf '2 2 put\n3 3 pu' >"$dir/acks-1"
expect 0 '"acked_writes":2,"lost_writes":0,"first_lost":[],"torn_ack_lines":1' \
  verify --from "$dir/a" --expected "$dir/a" "${stores[@]}" --acks "$dir/acks-0" "$dir/acks-1"
expect 1 '"rows_equal":1,"rows_different":1,"rows_missing":1,"rows_unexpected":1' \
  verify --from "$dir/a" --expected "$dir/b" "${stores[@]}"
printf '3 9 put\n' >"$dir/acks-0"
expect 1 '"lost_writes":1' verify --from "$dir/a" --expected "$dir/a" "${stores[@]}" --acks "$dir/acks-0"
expect 1 '"lost_writes":1' verify --from "$dir/a" --expected "$dir/a" "${stores[@]}" --acks "$dir/acks-0" \
  --written-to new

expect 1 'cities.json: opening: No such file' load --package "$dir" --legacy "$dir/x.db"
printf '[{"name":"A"' >"$dir/b/cities.json"
expect 1 'cities.json: byte 12: ' load --package "$dir/b" --legacy "$dir/x.db"
[[ ! -e $dir/x.db ]]
expect 2 'a command is missing'
expect 2 'unknown command "fly"' fly
expect 2 '--legacy is missing' load --package "$dir/a"
expect 2 'unknown flag --speed' stats --legacy "$legacy" --speed 3
expect 2 '--shards is "0"' oplog --from a --to b --out c --shards 0 --seed 1
expect 2 '--mapper is "v3"' backfill "${stores[@]}" --mapper v3
expect 2 '--written-to is "old"' verify --from a --expected b "${stores[@]}" --written-to old
expect 2 'need an --address to report to' backfill "${stores[@]}" --mapper v1 --migration demo/cities
expect 2 'is given twice' stats --legacy a --legacy b
expect 2 'follows no flag' stats a
expect 0 'usage: cities_tool' --help
echo ok
