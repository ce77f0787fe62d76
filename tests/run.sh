#!/usr/bin/env bash
# Runs spec files, each in a process of its own, two at a time; ends with `N passed, N failed`.
#   tests/run.sh FLAVOUR [FILE or FOLDER...]
# HOLDFAST_WRAP: a command in front of each process (valgrind). HOLDFAST_JOBS: processes at once.
# HOLDFAST_UNTIMED: a pattern of specs whose failed tests count as skipped, because everything is too slow for
# their bounds; what ends the process (a memory error) still fails.
set -u
cd "$(dirname "$0")/.." || exit 2
flavour=$1
shift
[ $# -gt 0 ] || set -- tests
export HOLDFAST_BUILD=build/$flavour
out=$HOLDFAST_BUILD/results
rm -rf "$out"
mkdir -p "$out"

run_spec() {
  scratch=$(mktemp -d)
  HOLDFAST_COUNTS=$counts HOLDFAST_OUTPUT=tests/support/outcome.lua HOLDFAST_SCRATCH=$scratch \
    timeout -k 5 "${HOLDFAST_SPEC_SECONDS:-240}" ${HOLDFAST_WRAP:-} "$HOLDFAST_BUILD/runner" "$spec" >"$log" 2>&1
  ended=$?
  rm -rf "$scratch"
  return "$ended"
}

run_one() {
  spec=$1
  name=$(printf '%s' "$spec" | tr '/' '_')
  log=$2/$name.log
  counts=$2/$name.counts
  begun=$SECONDS
  run_spec
  status=$?
  # gcc's LeakSanitizer may die of the thread-local block of a dlopen'ed module (see the runner in the Makefile): a
  # question of where it lies, so it is asked once more. Then without those blocks, which cannot do always, because
  # what only they point to (libcrypto's error queues) counts as lost.
  for options in "${LSAN_OPTIONS:-}" use_tls=0; do
    if [ "$status" -ne 0 ] && grep -q 'LeakSanitizer has encountered a fatal error' "$log"; then
      LSAN_OPTIONS=$options run_spec
      status=$?
    fi
  done
  # Where time is not to be judged, only what ended the process counts (valgrind's 9, a sanitizer, a signal).
  if [ -n "${HOLDFAST_UNTIMED:-}" ] && printf '%s' "$spec" | grep -qE "$HOLDFAST_UNTIMED"; then
    if [ "$status" = 124 ] && [ ! -f "$counts" ]; then printf '0 0 1\n' >"$counts"; fi
    case $status in 1 | 124) status=0 ;; esac
    [ ! -f "$counts" ] || { awk '{ print $1, 0, $2 + $3 }' "$counts" >"$counts.c" && mv "$counts.c" "$counts"; }
    grep -E '^==[0-9]+== ' "$log" | head -n 40
  fi
  # A process that died, or found something at its end (a leak), is a failure even if all its tests passed.
  if [ ! -f "$2/$name.counts" ]; then
    printf '0 1 0\n' >"$2/$name.counts"
    printf 'not ok: %s ended with status %s before its counts were written\n' "$spec" "$status" >>"$log"
  elif [ "$status" -ne 0 ] && [ "$(cut -d' ' -f2 "$2/$name.counts")" = 0 ]; then
    awk '{ print $1, 1, $3 }' "$2/$name.counts" >"$2/$name.c" && mv "$2/$name.c" "$2/$name.counts"
    printf 'not ok: %s passed, but its process ended with status %s\n' "$spec" "$status" >>"$log"
  fi
  read -r passed failed skipped <"$2/$name.counts"
  printf '%-64s %4d passed %3d failed %3d skipped %4d s\n' "$spec" "$passed" "$failed" "$skipped" $((SECONDS - begun))
  if [ "$failed" -ne 0 ]; then sed 's/^/    /' "$log" | head -c 20000; fi
  return 0
}
export -f run_one run_spec

find "$@" -name '*_spec.lua' | LC_ALL=C sort | xargs -P "${HOLDFAST_JOBS:-2}" -I{} bash -c 'run_one "$1" "$2"' _ {} "$out"

cat "$out"/*.counts 2>/dev/null | awk -v flavour="$flavour" '
  { passed += $1; failed += $2; skipped += $3 }
  END {
    if (passed + failed == 0) { print "no test ran"; exit 1 }
    line = sprintf("%d passed, %d failed", passed, failed)
    if (skipped) line = line sprintf(", %d skipped", skipped)
    print line
    exit failed != 0
  }'
