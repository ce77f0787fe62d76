#!/usr/bin/env bash
# What `make run` shows: holdfast keeps one bot connected while the platform misbehaves, for about 30 s, and
# then proves that no message was lost or came twice. The platform is `holdfast peer discord` on a loopback
# port with TLS. Starts three processes and ends them by their own ids; writes to build/demo/ alone.
# Usage: run.sh [BINARY]; DEMO_SECONDS and DEMO_DIR (two folders deep) for tests.
set -u
cd "$(dirname "$0")/../.." || exit 1
bin=$PWD/${1:-build/release/holdfast}
seconds=${DEMO_SECONDS:-30}
dir=${DEMO_DIR:-build/demo}
export DEMO_TOKEN=demo.not-a-real-token HOLDFAST_SOCKET=$dir/holdfast.sock COLUMNS=${COLUMNS:-100}
export HOLDFAST_LUA=$PWD/lua

bold='' dim='' red='' off=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' dim=$'\e[2m' red=$'\e[1;31m' off=$'\e[0m'; fi
say() { printf '%s%s%s\n' "$bold" "$*" "$off"; }

children=()
finish() {
  trap '' INT TERM
  # Newest first: the tails, the daemon (which closes its link in order), the peer.
  for ((i = ${#children[@]} - 1; i >= 0; i--)); do
    kill "${children[i]}" 2>/dev/null
    wait "${children[i]}" 2>/dev/null
  done
  children=()
  exec 3>&-
}
interrupted() { finish; echo; echo "Interrupted. Nothing is running any more."; exit 130; }
trap interrupted INT TERM
fail() { printf '%s%s%s\n' "$red" "$*" "$off" >&2; finish; exit 1; }
# until COMMAND succeeds, for at most 10 s
eventually() { for _ in $(seq 100); do "$@" && return 0; sleep 0.1; done; return 1; }

[ -x "$bin" ] || { echo "$bin is missing: \`make\` builds it" >&2; exit 1; }
rm -rf $dir && mkdir -p $dir && mkfifo $dir/controls || exit 1

say "holdfast, for $seconds seconds: one bot, one platform that misbehaves"
echo "The platform is played on this machine, over TLS. It sends a numbered message every half second."
echo

exec 3<>$dir/controls
"$bin" peer discord --port 0 --ca-out $dir/ca.pem --options examples/demo/peer.json <$dir/controls \
  >$dir/peer.log 2>&1 3>&- &
children+=($!)
eventually grep -q '^listening on ' $dir/peer.log || fail "the peer did not start: $(cat $dir/peer.log)"
port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' $dir/peer.log)
sed "s/127.0.0.1:9443/127.0.0.1:$port/" examples/demo/holdfast.lua >$dir/holdfast.lua

"$bin" run -c $dir/holdfast.lua 2>$dir/holdfast.log 3>&- &
children+=($!)
eventually test -S $dir/holdfast.sock || fail "holdfast did not start: $(cat $dir/holdfast.log)"

# One consumer writes everything down, another one is shown.
"$bin" tail --json --from start --consumer demo >$dir/events.ndjson 2>/dev/null 3>&- &
children+=($!)
"$bin" tail --pretty --from start 2>/dev/null 3>&- &
children+=($!)

shown=1
end=$((SECONDS + seconds))
while [ $SECONDS -lt $end ]; do
  sleep 0.05
  kill -0 "${children[1]}" 2>/dev/null || fail "holdfast ended: $(tail -3 $dir/holdfast.log)"
  total=$(wc -l <$dir/peer.log)
  if [ "$total" -gt "$shown" ]; then
    sed -n "$((shown + 1)),${total}p" $dir/peer.log | while read -r line; do
      printf '%s      >>> %s%s\n' "$bold" "$line" "$off"
    done
    shown=$total
  fi
done

# How many the platform sent by now; then everything up to that must be here.
echo '{"verb":"sent"}' >&3
sent() { made=$(sed -n 's/^{"answer":.*"made":\([0-9]*\).*/\1/p' $dir/peer.log | tail -1); [ -n "$made" ]; }
eventually sent || fail "the peer did not say how many messages it sent"
numbers() { sed -n 's/.*"frame":.*"number":\([0-9]*\).*/\1/p' $dir/events.ndjson; }
arrived() { [ "$(numbers | tail -1)" -ge "$made" ] 2>/dev/null; }
eventually arrived
links=$(grep -c '"state":"up"' $dir/events.ndjson)

echo
"$bin" status
finish

missing=$(numbers | awk -v made="$made" '{ seen[$1]++ } END { for (i = 1; i <= made; i++) if (!seen[i]) printf "%d ", i }')
twice=$(numbers | awk '{ if (seen[$1]++ == 1) printf "%d ", $1 }')
unordered=$(numbers | awk '$1 <= last { printf "%d ", $1 } { last = $1 }')
gaps=$(grep -c '^{"gap"' $dir/events.ndjson)
echo
say "$made messages sent by the platform, $(numbers | sort -nu | awk -v made="$made" '$1 <= made' | wc -l) received; the connection came up $links times."
printf '  missing   %s\n  twice     %s\n  disorder  %s\n  gaps told %s\n' \
  "${missing:-none}" "${twice:-none}" "${unordered:-none}" "$gaps"
echo
echo "Nothing is running any more. What happened stands in $dir/holdfast.log and $dir/events.ndjson."
echo "Next: put a real token into DISCORD_TOKEN and run"
echo "  ${1:-build/release/holdfast} run -c examples/holdfast.lua"
echo "The configuration is explained in examples/holdfast.lua, a policy in policies/discord.lua."
[ -z "$missing$twice$unordered" ] && [ "$made" -gt 0 ] || { printf '%sThat is not what holdfast promises.%s\n' "$red" "$off"; exit 1; }
