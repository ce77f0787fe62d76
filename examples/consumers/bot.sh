#!/usr/bin/env bash
# A bot in bash with curl that acknowledges properly: a frame once it was handled and answered, many with one line
# (after 50 frames or a second, and at the end). What was not acknowledged comes again, whatever ended the bot or
# holdfast. It holds one line and one position per connection; all else waits in holdfast. It answers the message
# `!status TEXT` with a presence. Usage: bot.sh [SOCKET [NAME]]
socket=${1:-run/holdfast.sock} name=${2:-bot-sh} batch=50 tries=60 ending=
declare -A acks
api() { local path=$1; shift; curl -sN --unix-socket "$socket" "http://localhost/v1/$path" "$@"; }
handle() { # your bot: CONNECTION OFFSET KIND LINE; jq can tell more of the line than this
  local text=
  [[ $3 == MESSAGE_CREATE && $4 =~ \"content\":\"(([^\"\\]|\\.)*)\" ]] && text=${BASH_REMATCH[1]}
  printf '%s %s %s %s\n' "$1" "$2" "$3" "$text"
  [[ $text != '!status '* ]] || answer "$1" '{"op":3,"d":{"since":null,"afk":false,"status":"online",
    "activities":[{"name":"'"${text#!status }"'","type":0}]}}'
}
answer() { # CONNECTION FRAME; fails when the bot is told to end before the frame was sent or refused for good
  local try said
  for ((try = 0; try < tries; try++)); do
    said=$(api "connections/$1/send" --data-binary "$2")
    printf 'ANSWER %s\n' "${said:-holdfast is away}" >&2
    [[ -z $said || $said == *'"retry":true'* ]] || return 0
    flush
    [ -z "$ending" ] || return 1
    sleep 0.5
  done
}
flush() { # one line per connection: it is for all frames before it
  local connection lines=
  for connection in "${!acks[@]}"; do lines+='{"ack":{"connection":"'$connection'",'${acks[$connection]}$'}}\n'; done
  [ -z "$lines" ] || api "ack?consumer=$name" --data-binary "$lines" >/dev/null
  acks=() count=0 flushed=$SECONDS
}
trap 'ending=1' INT TERM
event='^\{"event":\{"connection":"([^"]+)",("epoch":[0-9]+,"offset":([0-9]+)),"at":"[^"]*",("take":\{[^}]*"kind":"([^"]*))?'
while [ -z "$ending" ]; do
  exec {events}< <(api "events?consumer=$name&from=cursor&states=false")
  line= came=0; flush
  while [ -z "$ending" ] && [ $came -ne 1 ]; do
    IFS= read -r -t 0.5 -u "$events" piece; came=$? line+=$piece # above 128: time is up, the rest comes later
    if [ $came -eq 0 ] && [[ $line =~ $event ]]; then
      at=("${BASH_REMATCH[@]}")
      handle "${at[1]}" "${at[3]}" "${at[5]}" "$line" && acks[${at[1]}]=${at[2]} && count=$((count + 1))
    elif [ $came -eq 0 ] && [[ $line != '{"hello"'* ]]; then printf '%s\n' "$line" >&2; fi # a gap: frames may be missing
    [[ $line != '{"error":{"what":"replaced'* ]] || exit 1 # another bot has this name
    [ $came -gt 1 ] || line=
    [[ $count -lt $batch && $SECONDS == "$flushed" ]] || flush
  done
  flush; exec {events}<&-
  [ -n "$ending" ] || { echo "holdfast is away" >&2; sleep 1; }
done
