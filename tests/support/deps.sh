#!/bin/sh
# Installs the Debian packages named as arguments that are missing (COMMAND=PACKAGE: or that command, from
# wherever it comes; COMMAND@PACKAGE: that command alone, taken out of the package into build/tools, because the
# whole of it is heavy and would start a service); where that cannot be done, says which.
missing=
take_out() { # COMMAND PACKAGE
  command -v "$1" >/dev/null 2>&1 && return
  [ -x "build/tools/$1" ] && return
  echo "fetching: $1 of $2"
  mkdir -p build/tools
  folder=$(mktemp -d)
  chmod 755 "$folder"
  # An old list of packages names files that are gone: then it is fetched anew, where that is allowed.
  if { (cd "$folder" && apt-get download -qq "$2") || { $update && (cd "$folder" && apt-get download -qq "$2"); }; } >"$folder/log" 2>&1 &&
     dpkg-deb --fsys-tarfile "$folder/"*.deb | tar -x -C "$folder" "./usr/bin/$1" && mv "$folder/usr/bin/$1" build/tools/; then :
  else
    tail -5 "$folder/log" >&2
    echo "could not fetch $1; its specs are skipped (Debian package $2)" >&2
  fi
  rm -rf "$folder"
}

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
update="$as_root apt-get update -qq"
for package in "$@"; do
  case $package in
    *@*)
      take_out "${package%%@*}" "${package#*@}"
      continue ;;
    *=*)
      if command -v "${package%%=*}" >/dev/null 2>&1; then continue; fi
      package=${package#*=} ;;
  esac
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
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
