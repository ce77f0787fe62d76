#!/usr/bin/env bash
# The table of faults, measured now, as Markdown on standard output: what `holdfast why` says of each, how soon it is
# noticed, what is decided, how soon the connection is up again after the fault is healed.
#   tests/support/fault_table.sh [FLAVOUR]     after `make FLAVOUR=test test-build`
set -u
cd "$(dirname "$0")/../.." || exit 2
flavour=${1:-test}
export HOLDFAST_BUILD=build/$flavour
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export HOLDFAST_SCRATCH=$folder HOLDFAST_WIRE_REPORT=$folder/rows

for spec in tests/wire/every_fault_while_dialling_spec.lua tests/wire/every_fault_while_up_spec.lua; do
  if ! "$HOLDFAST_BUILD/runner" "$spec" >"$folder/log" 2>&1; then
    echo "$spec failed: no table" >&2
    tail -n 40 "$folder/log" >&2
    exit 1
  fi
done

cat <<'TEXT'
Limits of this run, where a row names none: resolve 2 s, connect, secure and upgrade 500 ms, greeting 800 ms, close
300 ms; backoff from 250 ms without jitter, which is part of the time to recover. Real sockets on loopback, TLS.

| while | fault | cause, as `holdfast why` tells it | noticed after | verdict | up again after |
|---|---|---|--:|---|--:|
TEXT
awk -F '\t' -v stages="preparing resolving connecting securing upgrading greeting ready none" '
  BEGIN { count = split(stages, order, " ") }
  { gsub(/\|/, "\\|"); row[$1] = row[$1] sprintf("| %s | %s | %s | %d ms | %s | %s |\n",
      $1 == "none" ? "ready" : $1, $2, $3, $4, $5, $6 ~ / / ? substr($6, 1, index($6, " ") - 1) " ms" substr($6, index($6, " ")) : $6 " ms") }
  END { for (i = 1; i <= count; i++) printf "%s", row[order[i]] }' "$HOLDFAST_WIRE_REPORT"
