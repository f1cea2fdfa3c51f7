#!/usr/bin/env bash
# Fetches one package of the npm registry, checks it against a pinned digest, and unpacks it.
#
#   deploy/npm_fetch.sh NAME VERSION SHA512_BASE64 DIRECTORY
#
# Nothing of the package is executed. Does nothing when DIRECTORY already holds that version.
set -euo pipefail

name=$1 version=$2 digest=$3 directory=$4
stamp="$directory/.fetched"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$name@$version $digest" ]; then
  exit 0
fi
command -v npm >/dev/null || { echo "npm_fetch: npm is not installed; run deploy/setup.sh" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for attempt in 1 2 3; do
  if (cd "$work" && npm pack --silent "$name@$version" >/dev/null 2>"$work/error"); then break; fi
  if [ "$attempt" = 3 ]; then
    echo "npm_fetch: can't fetch $name@$version from the npm registry:" >&2
    cat "$work/error" >&2
    exit 1
  fi
  sleep "$attempt"
done
archive=$(find "$work" -name '*.tgz')
found=$(openssl dgst -sha512 -binary "$archive" | base64 -w0)
if [ "$found" != "$digest" ]; then
  echo "npm_fetch: $name@$version has digest $found, expected $digest: refusing to use it" >&2
  exit 1
fi
rm -rf "$directory"
mkdir -p "$directory"
tar -xzf "$archive" -C "$directory" --strip-components=1 --no-same-owner
echo "$name@$version $digest" >"$stamp"
