#!/usr/bin/env bash
# Many more random schedules than `make test` runs, in parts, some at a time; a part that fails prints the
# seed, what broke, and the one command that repeats it. The last line counts.
#   tests/prove_long.sh FLAVOUR
# HOLDFAST_ROUNDS: how many of the engine's, or FIRST-LAST (1000000). HOLDFAST_SEEDS: how many of the
# simulator's, likewise (2000). HOLDFAST_POWER: how many of power cuts and failing disks (10000).
# HOLDFAST_REPLAYS: how many recorded runs are replayed (1000). 0 leaves them out. HOLDFAST_JOBS: parts at once (2).
set -u
cd "$(dirname "$0")/.." || exit 2
export HOLDFAST_BUILD=build/$1
out=$HOLDFAST_BUILD/prove
rm -rf "$out"
mkdir -p "$out"
unset HOLDFAST_SEED

# kind, COUNT or FIRST-LAST, size of a part: one line "kind FIRST-LAST" a part
parts() {
  case $2 in
    *-*) first=${2%-*} last=${2#*-} ;;
    *) first=1 last=$2 ;;
  esac
  case $first$last in
    *[!0-9]* | '') echo "prove-long: $1: expected a COUNT or FIRST-LAST, got $2" >&2; return 1 ;;
  esac
  while [ "$first" -le "$last" ]; do
    to=$((first + $3 - 1))
    [ "$to" -le "$last" ] || to=$last
    echo "$1 $first-$to"
    first=$((to + 1))
  done
}

run_part() {
  log=$3/$1-$2.log
  began=$SECONDS
  case $1 in
    engine) HOLDFAST_ROUNDS=$2 "$HOLDFAST_BUILD/runner" tests/unit/engine/random_spec.lua >"$log" 2>&1 ;;
    simulator) HOLDFAST_SEEDS=$2 "$HOLDFAST_BUILD/runner" tests/sim/fuzz_spec.lua >"$log" 2>&1 ;;
    replay) HOLDFAST_REPLAYS=$2 "$HOLDFAST_BUILD/runner" tests/sim/replay_random_spec.lua >"$log" 2>&1 ;;
    power) HOLDFAST_SEEDS=$2 "$HOLDFAST_BUILD/runner" tests/sim/power_cut_spec.lua >"$log" 2>&1 ;;
  esac
  status=$?
  if [ $status -eq 0 ]; then
    echo ok >"$log.status"
    printf '%-10s seeds %-20s ok      %4d s\n' "$1" "$2" $((SECONDS - began))
  else
    echo failed >"$log.status"
    printf '%-10s seeds %-20s FAILED  %4d s, status %d\n' "$1" "$2" $((SECONDS - began)) "$status"
    head -c 20000 "$log" | sed 's/^/    /'
  fi
}
export -f run_part

{
  parts engine "${HOLDFAST_ROUNDS:-1000000}" 50000 && parts simulator "${HOLDFAST_SEEDS:-2000}" 50 &&
    parts power "${HOLDFAST_POWER:-10000}" 500 && parts replay "${HOLDFAST_REPLAYS:-1000}" 100
} >"$out/parts" || exit 2
xargs -P "${HOLDFAST_JOBS:-2}" -L 1 bash -c 'run_part "$1" "$2" "$0"' "$out" <"$out/parts"
all=$(wc -l <"$out/parts")
good=$(cat "$out"/*.status 2>/dev/null | grep -c '^ok$')
echo "$good of $all parts passed"
[ "$all" -gt 0 ] && [ "$good" -eq "$all" ]
