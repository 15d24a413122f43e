# Shell functions that tests/run and .ci/run share: phases with a time budget, and what they count.
# Sourced by bash, not run. Expects the current folder to be the root of the tree.
#
# A phase is a function. It runs commands through `bounded`, which stops them when the phase's
# budget is used up, and adds what it tested to $COUNTS, a file of lines "passed failed skipped".
# A phase that fails without having counted a failure counts as one. One with less than a minute is
# skipped, and says so.

# shellcheck shell=bash

# Where the counts go. A script that calls another one of ours exports it, so that both add to it.
if [[ -z ${COUNTS:-} ]]; then
  PHASES_FOLDER=$(mktemp -d)
  COUNTS=$PHASES_FOLDER/counts
  : >"$COUNTS"
  trap 'rm -rf "$PHASES_FOLDER"' EXIT
fi
export COUNTS

# Prints "P passed, F failed, S skipped" for the lines of $COUNTS after the first $1; returns 1 if
# something failed or nothing passed.
totals() {
  awk -v from="$1" 'NR > from { p += $1; f += $2; s += $3 }
    END { printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 || p == 0 }' "$COUNTS"
}

counted_lines() { wc -l <"$COUNTS"; }

count() { echo "$1 $2 $3" >>"$COUNTS"; }

# phase NAME BUDGET_S FUNCTION [ARGUMENT...]: runs it, prints its seconds, never fails itself.
phase() {
  local name=$1 budget_s=$2 begin_s=$SECONDS from status=0 failed
  shift 2
  from=$(counted_lines)
  PHASE_END_S=$((SECONDS + budget_s))
  echo "=== $name (at most $budget_s s)"
  if ((budget_s >= 60)); then
    "$@" || status=$?
  else
    echo "skipped: no time was left"
    count 0 0 1
  fi
  failed=$(awk -v from="$from" 'NR > from { f += $2 } END { print f + 0 }' "$COUNTS")
  if ((status != 0 && failed == 0)); then count 0 1 0; fi
  if ((status != 0)); then echo "=== $name FAILED (status $status)"; fi
  echo "=== $name: $((SECONDS - begin_s)) s"
}

# Runs a command until the phase's budget is used up, then interrupts it (status 124).
bounded() {
  local left_s=$((PHASE_END_S - SECONDS))
  timeout --foreground --signal=INT --kill-after=30 "$((left_s > 1 ? left_s : 1))" "$@"
}

# The lesser of BUDGET_S and what is left until TOTAL_S seconds after the script began.
within() {
  local budget_s=$1 left_s=$(($2 - SECONDS))
  echo "$((budget_s < left_s ? budget_s : left_s))"
}

# bazel_test [ARGUMENT...]: `bazel test`, and counts the test cases of the targets that ran.
# Targets that were skipped by their tags do not count; no target at all is no failure.
bazel_test() { count_bazel_test "" "$@"; }

# bazel_test for as long as the phase's budget lasts: what it left no time for counts as skipped.
bazel_test_share() { count_bazel_test --share "$@"; }

count_bazel_test() {
  local option=$1 events status=0
  shift
  events=$(mktemp)
  bounded bazel test --keep_going --build_event_json_file="$events" "$@" || status=$?
  # 4: the build is fine and no test target matched.
  if ((status == 4)); then
    echo "no test target here: $*"
    status=0
  fi
  # 124: stopped by `bounded`.
  if [[ -n $option ]] && ((status == 124)); then status=0; fi
  tests/count_results --append="$COUNTS" ${option:+"$option"} "$events" || status=$((status == 0 ? 1 : status))
  rm -f "$events"
  return "$status"
}
