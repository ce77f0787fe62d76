#!/usr/bin/env bash
# Judges one mutant: in a tree of its own, which is the real one but for the mutated file, the specs that concern it run
# one after another until one fails, and then the prover.
#   tests/mutants/judge.sh FOLDER   with FOLDER/judges (a spec and its seconds of CPU on each line), FOLDER/policy and
#   policy.lua, or FOLDER/stem and STEM.o, and MUTANTS_BUILD, MUTANTS_CC, MUTANTS_LIBS in the environment
# Writes FOLDER/verdict: "found SPEC: CLAIM", "ran on SPEC" or "survived".
set -u
root=$PWD
folder=$root/$1
tree=$folder/tree
rm -rf "$tree"
mkdir -p "$tree/build/test/unit" "$folder/scratch"
for name in lua tests runtime examples; do ln -s "$root/$name" "$tree/$name"; done
cp -R policies "$tree/policies"
for path in "$root/$MUTANTS_BUILD"/*; do [ -d "$path" ] || ln -s "$path" "$tree/build/test/"; done
for path in "$root/$MUTANTS_BUILD"/unit/*.so; do ln -s "$path" "$tree/build/test/unit/"; done
if [ -f "$folder/policy" ]; then
  cp "$folder/policy.lua" "$tree/policies/$(cat "$folder/policy").lua"
else
  stem=$(cat "$folder/stem")
  cp "$root/$MUTANTS_BUILD/libengine.a" "$folder/libengine.a"
  ar r "$folder/libengine.a" "$folder/$stem.o" 2>/dev/null
fi

# A module of the tests anew, with the engine that is mutated; once.
link() {
  [ -f "$folder/stem" ] && [ ! -f "$folder/$1.so" ] || return 0
  local archives="" m
  for m in $(sed -n '1s,.*modules: \(.*\) \*/.*,\1,p' "$root/tests/support/unit_$1.c"); do
    [ "$m" = engine ] && archives="$archives $folder/libengine.a" || archives="$archives $root/$MUTANTS_BUILD/lib$m.a"
  done
  eval "$MUTANTS_CC" -w -g0 -shared -o "$folder/$1.so" "$root/$MUTANTS_BUILD/mutants/$1.o" \
    -Wl,--strip-debug -Wl,--start-group $archives -Wl,--end-group "$MUTANTS_LIBS" || exit 3
  ln -sf "$folder/$1.so" "$tree/build/test/unit/$1.so"
}

verdict() {
  echo "$*" >"$folder/verdict"
  rm -rf "$tree" "$folder/scratch" "$folder"/*.so "$folder"/*.a "$folder"/*.o
  printf '%s %s\n' "$(basename "$folder")" "$*"
  exit 0
}

while read -r spec seconds rounds units; do
  for unit in $units; do link "$unit"; done
  (
    cd "$tree" || exit 3
    ulimit -t "$seconds"
    # What is read before it was written, or after it was given back, is no zero.
    MALLOC_PERTURB_=165 HOLDFAST_BUILD=build/test HOLDFAST_OUTPUT=tests/support/outcome.lua HOLDFAST_SCRATCH=$folder/scratch HOLDFAST_ROUNDS=$rounds \
      MUTANT_POLICY=$(cat "$folder/proved") timeout -k 5 $((seconds * 20)) build/test/runner --no-keep-going "$spec"
  ) >"$folder/log" 2>&1
  case $? in
    0) ;;
    124 | 137 | 152) verdict "ran on $spec" ;;
    *) verdict "found $spec: $(sed -n 's/^not ok: //p' "$folder/log" | head -n 1)" ;;
  esac
done <"$folder/judges"
verdict survived
