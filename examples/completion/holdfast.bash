# Completion of holdfast's command line for bash. It asks `holdfast --help` and `holdfast help COMMAND`, and
# the running holdfast for names of connections, so that it knows what the installed one knows.
#
#   bash   cp holdfast.bash /usr/share/bash-completion/completions/holdfast
#   zsh    autoload -U +X bashcompinit && bashcompinit && source holdfast.bash

# Names of commands, or with a command its options; with an option of it the word for its value.
_holdfast_commands() { "$1" --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }'; }

_holdfast_options() { # BINARY COMMAND [OPTION]
  "$1" help "$2" 2>/dev/null | awk -v wanted="$3" '
    /^  -/ {
      left = substr($0, 3)
      sub(/  .*/, "", left)
      n = split(left, words, /,? /)
      value = ""
      for (i = 1; i <= n; i++) if (words[i] !~ /^-/) value = words[i]
      for (i = 1; i <= n; i++) {
        if (words[i] !~ /^-/) continue
        if (wanted == "") print words[i]
        else if (words[i] == wanted) print value
      }
    }
    /^  [^-]/ || /^[^ ]/ { if (seen) exit }
    /^  -/ { seen = 1 }'
}

# First words of what a command lists, from the holdfast that this command line names.
_holdfast_listed() { # BINARY COMMAND...
  local i args=()
  for ((i = 2; i + 1 < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in --socket | --config | -c) args+=("${COMP_WORDS[i]}" "${COMP_WORDS[i + 1]}") ;; esac
  done
  COLUMNS=300 timeout 2 "$@" "${args[@]}" 2>/dev/null | awk 'NR > 1 && /^[A-Za-z0-9]/ { print $1 }'
}
_holdfast_names() { _holdfast_listed "$1" status; }
_holdfast_consumers() { _holdfast_listed "$1" consumer list; }

_holdfast_peers() {
  local lua=${HOLDFAST_LUA:-$(dirname "$(command -v "$1")")/../share/holdfast/lua} file
  for file in "$lua"/peers/*.lua; do
    file=${file##*/}
    [ "$file" = '*.lua' ] || echo "${file%.lua}"
  done
}

_holdfast() {
  local bin=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
  local command=${COMP_WORDS[1]} words='' files='' value usage
  COMPREPLY=()
  # --option=value comes as three words.
  if [ "$cur" = = ]; then
    cur=''
  elif [ "$before" = = ]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="$(_holdfast_commands "$bin") help --help --version"
  elif [ "$command" = help ]; then
    [ "$COMP_CWORD" -ne 2 ] || words=$(_holdfast_commands "$bin")
  elif value=$([[ $before == -* ]] && _holdfast_options "$bin" "$command" "$before") && [ -n "$value" ]; then
    case $value in
      *FILE* | *PATH* | *POLICY*) files=yes ;;
      WHERE) words='now start cursor' ;;
      *) return ;; # a number, a name that is up to the caller
    esac
  elif [ "$command" = consumer ] && [[ $cur != -* ]]; then
    case $before in
      consumer) words='list forget' ;;
      list | forget) words=$(_holdfast_consumers "$bin") ;;
    esac
  elif [ "$command" = store ] && [[ $cur != -* ]]; then
    [ "$before" != store ] || words='info export compact'
  elif [[ $cur == -* ]]; then
    words="$(_holdfast_options "$bin" "$command") --help"
  else
    usage=$("$bin" help "$command" 2>/dev/null | sed -n 's/^usage: holdfast [a-z]* *//p')
    usage=${usage%% [[]--*} # the arguments stand before the options
    usage=${usage%% --*}
    case $usage in *NAME*) words=$(_holdfast_names "$bin") ;; esac
    case $usage in *PLATFORM*) words=$(_holdfast_peers "$bin") ;; esac
    case $usage in *FILE* | *POLICY* | *TRACE*) files=yes ;; esac
  fi
  if [ -n "$words" ]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
  elif [ -n "$files" ]; then
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    compopt -o filenames 2>/dev/null
  fi
}

complete -F _holdfast holdfast
