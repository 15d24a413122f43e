#!/bin/bash
# The programs that this machine built, on processors that lack its instructions: emulated ones, so
# that no instruction of a newer one runs unseen, not even where a set of kernels is made.
set -euo pipefail

qemu=$(command -v qemu-x86_64) || { echo "want qemu-x86_64; deploy/setup --tests installs it"; exit 1; }
for processor in Westmere Haswell; do  # Without AVX; with AVX2 and without AVX-512.
  for test in "$@"; do
    echo "== $test on $processor"
    "$qemu" -cpu "$processor" "$test"
  done
done
