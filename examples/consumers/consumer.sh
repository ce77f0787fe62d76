#!/bin/sh
# A bot in a shell: `holdfast tail` acknowledges each line that it printed, under the name `shell`.
# Usage: consumer.sh [NAME...]
holdfast tail --json --consumer shell "$@" | while IFS= read -r line; do
  case $line in
    '{"event":'*) printf '%s\n' "$line" | jq -c '.event | [.connection, .offset, .take.kind]' ;;
    '{"gap":'*)   printf 'frames may be missing: %s\n' "$line" >&2 ;;
  esac
done
