#!/bin/bash
# The full disk as programs of the system meet it.
set -uo pipefail
FAILURES=0
FOLDER=$TEST_TMPDIR/disk
OTHER=$TEST_TMPDIR/other
mkdir -p "$FOLDER" "$OTHER"
LIBRARY=$PWD/tests/full_disk/libfull_disk.so

# on_full_disk COMMAND...: with 10,000 bytes of room; its messages go to $TEST_TMPDIR/messages.
on_full_disk() {
  FULL_DISK_FOLDER=$FOLDER FULL_DISK_AFTER_BYTES=10000 LD_PRELOAD=$LIBRARY LC_ALL=C \
    "$@" 2>"$TEST_TMPDIR/messages"
}

# expect WHAT GOT WANT
expect() {
  if [[ $2 == "$3" ]]; then return; fi
  echo "$1: got $2, want $3"
  FAILURES=$((FAILURES + 1))
}

size() { stat -c %s "$1"; }
no_space() { grep -c "No space left on device" "$TEST_TMPDIR/messages"; }

on_full_disk dd if=/dev/zero of="$FOLDER/written" bs=4096 count=5
expect "status of a write beyond the end" $? 1
expect "bytes that were written" "$(size "$FOLDER/written")" 10000
expect "messages" "$(no_space)" 1

on_full_disk dd if=/dev/zero of="$FOLDER/fits" bs=5000 count=2
expect "status of a write that just fits" $? 0

on_full_disk dd if=/dev/zero of="$OTHER/elsewhere" bs=4096 count=5
expect "status of a write elsewhere" $? 0
expect "bytes elsewhere" "$(size "$OTHER/elsewhere")" 20480

on_full_disk cp "$OTHER/elsewhere" "$FOLDER/copied"
expect "status of a copy" $? 1
expect "messages of a copy" "$(no_space)" 1

on_full_disk fallocate -l 20000 "$FOLDER/reserved"
expect "status of a reservation" $? 1

export FULL_DISK_ROOM_FILE=$OTHER/room
touch "$FULL_DISK_ROOM_FILE"
on_full_disk dd if=/dev/zero of="$FOLDER/with_room" bs=4096 count=5
expect "status while the file of room is there" $? 0
rm "$FULL_DISK_ROOM_FILE"
on_full_disk dd if=/dev/zero of="$FOLDER/without_room" bs=4096 count=5
expect "status once it is gone" $? 1

exit "$FAILURES"
