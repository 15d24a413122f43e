#!/bin/bash
# The scripts of this folder are right about their words before they touch the machine: each parses,
# tells how it is used, and refuses what it does not know, with what it got and what it wants.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

failures=0
fail() { echo "deploy/scripts_test: $*" >&2; failures=$((failures + 1)); }

# refuses TEXT COMMAND...: the command fails, says TEXT, and prints nothing on standard output.
refuses() {
  local text=$1 status=0
  shift
  "$@" >"$TEST_TMPDIR/out" 2>"$TEST_TMPDIR/err" || status=$?
  ((status == 1)) || fail "$* ended with $status, want 1"
  grep -qF -- "$text" "$TEST_TMPDIR/err" || fail "$* says '$(<"$TEST_TMPDIR/err")', want '$text'"
  [[ ! -s $TEST_TMPDIR/out ]] || fail "$* prints '$(<"$TEST_TMPDIR/out")', want nothing"
}

for script in quickstart setup fetch_model; do
  [[ -x $script ]] || fail "$script is not executable"
  bash -n "$script" || fail "$script does not parse"
done

for flag in --help -h; do
  usage=$(./quickstart "$flag") || fail "quickstart $flag failed"
  for word in --home --port_base --max_steps; do
    [[ $usage == *"$word"* ]] || fail "quickstart $flag does not tell of $word"
  done
  [[ $usage != *"set -euo"* ]] || fail "quickstart $flag prints code"
done

refuses "the argument is '--steps', want --home, --port_base or --max_steps" ./quickstart --steps 5
refuses "--max_steps has no value" ./quickstart --home "$TEST_TMPDIR" --max_steps
refuses "HOME is not set, want it or --home" env -u HOME -u DELTAWORKS_HOME ./quickstart
refuses "the argument is '--test', want nothing, --tests or --cuda" ./setup --test
refuses "got 2 arguments, want at most one, a folder" ./fetch_model a b
refuses "HOME is not set, want it or a folder" env -u HOME -u XDG_CACHE_HOME ./fetch_model

((failures == 0)) || exit 1
