#!/usr/bin/env bash
# kill -9 at many random instants and at every failpoint with every count, on the real daemon; what `make test`
# does a little of. A failure prints its seed, which repeats the instants as well as a machine can.
#   tests/kill_matrix.sh FLAVOUR
# HOLDFAST_KILLS: random instants (200). HOLDFAST_SEED: theirs; otherwise of the clock.
set -u
cd "$(dirname "$0")/.." || exit 2
export HOLDFAST_BUILD=build/$1 HOLDFAST_KILLS=${HOLDFAST_KILLS:-200} HOLDFAST_FAILPOINTS=all
HOLDFAST_SCRATCH=$(mktemp -d)
export HOLDFAST_SCRATCH
"$HOLDFAST_BUILD/runner" tests/daemon/kill_matrix_spec.lua
status=$?
rm -rf "$HOLDFAST_SCRATCH"
exit $status
