#!/bin/sh
# Installs the Debian packages named as arguments that are missing (COMMAND=PACKAGE: or that command, from
# wherever it comes); where that cannot be done, says which.
missing=
for package in "$@"; do
  case $package in
    *=*)
      if command -v "${package%%=*}" >/dev/null 2>&1; then continue; fi
      package=${package#*=} ;;
  esac
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
if ! command -v apt-get >/dev/null 2>&1 || { [ -n "$as_root" ] && ! command -v sudo >/dev/null 2>&1; }; then
  echo "please install:$missing" >&2
  exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
{ $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends $missing; } >build-deps.log 2>&1 || {
  tail -20 build-deps.log >&2
  rm -f build-deps.log
  echo "could not install:$missing" >&2
  exit 1
}
rm -f build-deps.log
