#!/usr/bin/env bash
# Lines and branches that the specs reach, per folder and file, of runtime/engine, runtime/frame and runtime/*.c.
#   tests/support/coverage.sh [SPEC or FOLDER...]     default: unit, sim, policy and regress specs
# Builds with --coverage into build/coverage and changes nothing elsewhere. With HOLDFAST_UNCOVERED=1 the lines
# and branches that nothing reaches are listed as well.
set -eu
cd "$(dirname "$0")/../.."
out=build/coverage
[ $# -gt 0 ] || set -- tests/unit tests/sim tests/policy tests/regress
targets=$out/runner
for f in tests/support/unit_*.c; do
  name=${f##*/unit_}
  targets="$targets $out/unit/${name%.c}.so"
done
mkdir -p "$out"
# shellcheck disable=SC2086
CFLAGS="-O0 -g --coverage" LDFLAGS="--coverage" \
  make --no-print-directory -j"${JOBS:-2}" FLAVOUR=coverage $targets >"$out/build.log" 2>&1 \
  || { tail -n 40 "$out/build.log"; exit 1; }
find "$out" -name '*.gcda' -delete
HOLDFAST_SPEC_SECONDS=900 tests/run.sh coverage "$@" || true

report() {
  # gcov's own summaries: "File 'x'", "Lines executed:p% of n", "Branches executed:..", "Taken at least once:.."
  for object in "$@"; do
    gcov -b -n -o "$(dirname "$object")" "$object" 2>/dev/null
  done | awk -v here="$PWD/" '
    /^File/ { gsub(/^File .|.$/, ""); file = $0; sub(here, "", file); lines = 0 }
    /^Lines executed/ { split($0, a, /[:% ]+/); share = a[3]; n = a[5]; if (file ~ /\.c$/ && n > lc[file]) { lc[file] = n; lp[file] = share } }
    /^Taken at least once/ { split($0, a, /[:% ]+/); if (file ~ /\.c$/ && a[7] >= bc[file]) { bc[file] = a[7]; bp[file] = a[5] } }
    END {
      for (f in lc) {
        d = f; sub(/\/[^\/]*$/, "", d)
        printf "%-34s lines %6.1f%% of %5d   branches %6.1f%% of %5d\n", f, lp[f], lc[f], bp[f], bc[f]
        dl[d] += lc[f]; dh[d] += lc[f] * lp[f] / 100; dbt[d] += bc[f]; dbh[d] += bc[f] * bp[f] / 100
      }
      for (d in dl) printf "= %-32s lines %6.1f%% of %5d   branches %6.1f%% of %5d\n", d, 100 * dh[d] / dl[d], dl[d], dbt[d] ? 100 * dbh[d] / dbt[d] : 0, dbt[d]
    }' | LC_ALL=C sort
}
report "$out"/obj/engine/*.gcda "$out"/obj/frame/*.gcda "$out"/obj/*.gcda

if [ -n "${HOLDFAST_UNCOVERED:-}" ]; then
  mkdir -p "$out/gcov"
  for object in "$out"/obj/engine/*.gcda "$out"/obj/frame/*.gcda "$out"/obj/*.gcda; do
    (cd "$out/gcov" && gcov -b -c -o "$OLDPWD/$(dirname "$object")" "$OLDPWD/$object" >/dev/null 2>&1)
  done
  for f in "$out"/gcov/*.c.gcov; do
    grep -n '#####:' "$f" | sed "s|^[0-9]*:|${f##*/}: |" || true
  done
fi
