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

FULL_DISK_ERROR=EIO on_full_disk dd if=/dev/zero of="$FOLDER/gone" bs=4096 count=5
expect "status of a write to a disk that is gone" $? 1
expect "its messages" "$(grep -c "Input/output error" "$TEST_TMPDIR/messages")" 1

on_full_disk dd if=/dev/zero of="$FOLDER/fits" bs=5000 count=2
expect "status of a write that just fits" $? 0

on_full_disk dd if=/dev/zero of="$OTHER/elsewhere" bs=4096 count=5
expect "status of a write elsewhere" $? 0
expect "bytes elsewhere" "$(size "$OTHER/elsewhere")" 20480

on_full_disk cp "$OTHER/elsewhere" "$FOLDER/copied"
expect "status of a copy" $? 1
expect "messages of a copy" "$(no_space)" 1

dd if=/dev/zero of="$OTHER/small" bs=6000 count=1 2>/dev/null
on_full_disk cp "$OTHER/small" "$FOLDER/copied_whole"
expect "status of a copy that fits" $? 0
expect "bytes of a copy that fits" "$(size "$FOLDER/copied_whole")" 6000

# Each call that the library stands in for, by its own name: 10,000 bytes of room, one after another.
on_full_disk python3 - "$FOLDER/calls" "$OTHER/small" <<'END'
import errno, os, sys

to = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
source = os.open(sys.argv[2], os.O_RDONLY)
END_OF_SOURCE = os.fstat(source).st_size


def expect(want, call, *arguments):
    try:
        got = call(*arguments)
    except OSError as error:
        got = errno.errorcode[error.errno]
    if got != want:
        sys.exit(f"{call.__name__}{arguments}"[:200] + f": got {got}, want {want}")


def expect_size(want):
    expect(want, lambda: os.fstat(to).st_size)


# While there is room, each takes what it writes and no more.
expect("EBADF", os.write, os.open(sys.argv[1], os.O_RDONLY), b"x" * 9000)
expect(1000, os.writev, to, [b"", b"x" * 1000, b"y" * 1000])
expect(1000, os.pwrite, to, b"x" * 1000, 1000)
expect(None, os.posix_fallocate, to, 0, 3000)
expect(None, os.ftruncate, to, 4000)
expect_size(4000)
expect(1000, os.copy_file_range, source, to, 1 << 20, END_OF_SOURCE - 1000, 4000)
expect(0, os.copy_file_range, source, to, 1 << 20, END_OF_SOURCE, 5000)
os.lseek(to, 5000, os.SEEK_SET)
expect(1000, os.sendfile, to, source, END_OF_SOURCE - 1000, 1 << 20)
expect(1000, os.write, to, b"x" * 1000)
expect_size(7000)
# 3,000 bytes are left: more than that is refused as a whole, or cut.
expect("ENOSPC", os.ftruncate, to, 10_001)
expect("ENOSPC", os.posix_fallocate, to, 0, 10_001)
expect_size(7000)
expect(3000, os.pwrite, to, b"x" * 4000, 7000)
# The disk is full.
expect("ENOSPC", os.write, to, b"x")
expect("ENOSPC", os.pwrite, to, b"x", 10_000)
expect("ENOSPC", os.writev, to, [b"x"])
expect("ENOSPC", os.posix_fallocate, to, 0, 10_001)
expect("ENOSPC", os.ftruncate, to, 10_001)
expect("ENOSPC", os.copy_file_range, source, to, 1, 0, 10_000)
expect("ENOSPC", os.sendfile, to, source, 0, 1)
expect_size(10_000)
# What takes no room goes on.
expect(0, os.copy_file_range, source, to, 1, END_OF_SOURCE, 10_000)
expect(0, os.sendfile, to, source, END_OF_SOURCE, 1)
expect(None, os.posix_fallocate, to, 0, 10_000)
expect(None, os.ftruncate, to, 5000)
END
expect "status of each call" "$? $(cat "$TEST_TMPDIR/messages")" "0 "

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
