// A NCCL for tests: the functions that NcclCommunicator uses, between processes of one machine,
// over POSIX shared memory, on streams that are HostStreams. Loaded at run time like the real one,
// and strict where the real one hangs or writes where it should not:
//
//   ncclInvalidUsage     a send or receive outside a group, a group end without a start, a call
//                        before the last one settled, two communicators in one group, a send whose
//                        peer ended its call without receiving it, or a receive the other way
//                        round, calls in different orders on two ranks, destroy while something
//                        runs
//   ncclInvalidArgument  a communicator that is not one (any more), a peer, root, type, pointer or
//                        configuration out of bounds, another count or type than the other side's,
//                        another root than the other ranks'
//
// What another rank has to do with comes out of ncclCommGetAsyncError, as in the real one. Like it
// (over NVLink), it does not notice that a peer died or aborted: its calls wait until they are
// aborted. Communicators are non-blocking, and every call settles only when asked twice.
//
// In shared memory, for every two ranks a mailbox with one message at a time: a description, which
// the receiver compares with what it wants, then the bytes, through a ring.

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "trainer/comm/nccl_api.h"
#include "trainer/comm/testing/host_stream.h"

namespace deltaworks::trainer {
namespace {

constexpr int kRanksMax = 8;
constexpr uint64_t kRingBytes = 256 << 10;
constexpr uint64_t kCallsKept = 64;
constexpr int kCommsMax = 64;

// What a rank does in one call, or sends in one message.
struct Description {
  enum Kind : int32_t { kGroup = 1, kBroadcast = 2 };
  uint64_t call = 0;  // Number of the call, from 1, on every rank of the communicator.
  Kind kind = kGroup;
  int32_t type = 0;
  int32_t root = 0;
  uint64_t count = 0;
};

struct Mailbox {
  std::atomic<uint64_t> posted;  // Messages that the sender has described.
  std::atomic<uint64_t> taken;   // Messages whose description the receiver has agreed with.
  std::atomic<int> error;        // Of the receiver, if it has not.
  Description description;       // Of message `posted`.
  std::atomic<uint64_t> written;
  std::atomic<uint64_t> read;
  char ring[kRingBytes];
};

struct Announcement {
  std::atomic<uint64_t> call;  // Set last.
  Description description;
};

struct RankState {
  std::atomic<int> joined;
  std::atomic<uint64_t> calls_done;
  Announcement announcements[kCallsKept];
};

struct Shared {
  std::atomic<int> size;
  std::atomic<int> joined;
  RankState ranks[kRanksMax];
  Mailbox mailboxes[kRanksMax][kRanksMax];  // [from][to].
};

struct Comm {
  Shared* shared = nullptr;
  char name[NcclUniqueId::kBytes] = {};
  int rank = 0;
  int size = 0;
  bool ready = false;
  int unsettled = 0;   // How often CommGetAsyncError still says "in progress".
  uint64_t calls = 0;  // Enqueued.
  std::atomic<bool> aborted = false;
  std::atomic<int> running = 0;  // Calls on the stream.
  std::atomic<int> error = kNcclSuccess;
};

// One send or receive of a group, and how far it is.
struct Transfer {
  bool sends = false;
  char* data = nullptr;
  uint64_t count = 0;
  int type = 0;
  int peer = 0;
  uint64_t begun = 0;  // The number of its message, once that is known.
  bool agreed = false;
  uint64_t moved = 0;
  bool done = false;
};

struct StreamCall {
  Comm* comm = nullptr;
  Description description;
  std::vector<Transfer> transfers;
};

std::atomic<Comm*> live_comms[kCommsMax];

thread_local int group_depth = 0;
thread_local NcclResult group_error = kNcclSuccess;
thread_local Comm* group_comm = nullptr;
thread_local HostStream* group_stream = nullptr;
thread_local std::vector<Transfer> group_transfers;

uint64_t BytesOf(int type) {
  if (type == kNcclUint8) return 1;
  if (type == kNcclFloat32) return 4;
  return 0;
}

bool IsLive(const Comm* comm) {
  return comm != nullptr && std::any_of(std::begin(live_comms), std::end(live_comms),
                                        [&](const auto& each) { return each.load() == comm; });
}

bool Register(Comm* comm) {
  for (auto& each : live_comms) {
    Comm* none = nullptr;
    if (each.compare_exchange_strong(none, comm)) return true;
  }
  return false;
}

void Remove(Comm* comm) {
  for (auto& each : live_comms) {
    Comm* expected = comm;
    if (each.compare_exchange_strong(expected, nullptr)) break;
  }
  shm_unlink(comm->name);
  munmap(comm->shared, sizeof(Shared));
  delete comm;
}

// A pause that grows, until a peer has done something.
class Idle {
 public:
  void Reset() { spins_ = 0; }
  void Pause() {
    if (++spins_ < 20) {
      sched_yield();
    } else {
      usleep(50);
    }
  }

 private:
  int spins_ = 0;
};

void Announce(Comm* comm, const Description& description) {
  Announcement& slot = comm->shared->ranks[comm->rank].announcements[description.call % kCallsKept];
  slot.description = description;
  slot.call.store(description.call, std::memory_order_release);
}

// What `peer` does in call `call`; nullptr if it has not begun it.
const Description* AnnouncedBy(Comm* comm, int peer, uint64_t call) {
  Announcement& slot = comm->shared->ranks[peer].announcements[call % kCallsKept];
  return slot.call.load(std::memory_order_acquire) == call ? &slot.description : nullptr;
}

// Whether `peer` can still do its side of call `call`.
NcclResult CheckPeer(Comm* comm, int peer, const Description& mine) {
  const Description* theirs = AnnouncedBy(comm, peer, mine.call);
  if (theirs != nullptr && theirs->kind != mine.kind) return kNcclInvalidUsage;
  return kNcclSuccess;
}

bool HasEndedCall(Comm* comm, int peer, uint64_t call) {
  return comm->shared->ranks[peer].calls_done.load(std::memory_order_acquire) >= call;
}

// Moves what can be moved. Sets *moved if anything was.
NcclResult AdvanceSend(Comm* comm, const Description& call, Transfer& t, bool* moved) {
  Mailbox& box = comm->shared->mailboxes[comm->rank][t.peer];
  if (t.begun == 0) {
    box.description = call;
    box.description.count = t.count;
    box.description.type = t.type;
    t.begun = box.posted.load(std::memory_order_relaxed) + 1;
    box.posted.store(t.begun, std::memory_order_release);
    *moved = true;
  }
  if (const int error = box.error.load(); error != 0) return static_cast<NcclResult>(error);
  if (!t.agreed) {
    const bool ended = HasEndedCall(comm, t.peer, call.call);
    t.agreed = box.taken.load(std::memory_order_acquire) >= t.begun;
    if (!t.agreed) return ended ? kNcclInvalidUsage : CheckPeer(comm, t.peer, call);
  }
  const uint64_t bytes = t.count * BytesOf(t.type);
  const uint64_t written = box.written.load(std::memory_order_relaxed);
  const uint64_t read = box.read.load(std::memory_order_acquire);
  const uint64_t place = written % kRingBytes;
  const uint64_t n = std::min({bytes - t.moved, kRingBytes - (written - read), kRingBytes - place});
  if (n > 0) {
    std::memcpy(box.ring + place, t.data + t.moved, n);
    t.moved += n;
    box.written.store(written + n, std::memory_order_release);
    *moved = true;
  }
  t.done = t.moved == bytes && box.read.load(std::memory_order_acquire) == written + n;
  return kNcclSuccess;
}

NcclResult AdvanceReceive(Comm* comm, const Description& call, Transfer& t, bool* moved) {
  Mailbox& box = comm->shared->mailboxes[t.peer][comm->rank];
  if (t.begun == 0) t.begun = box.taken.load(std::memory_order_relaxed) + 1;
  if (!t.agreed) {
    const bool ended = HasEndedCall(comm, t.peer, call.call);
    if (box.posted.load(std::memory_order_acquire) < t.begun) {
      return ended ? kNcclInvalidUsage : CheckPeer(comm, t.peer, call);
    }
    const Description& theirs = box.description;
    NcclResult result = kNcclSuccess;
    if (theirs.call != call.call || theirs.kind != call.kind) {
      result = kNcclInvalidUsage;
    } else if (theirs.count != t.count || theirs.type != t.type || theirs.root != call.root) {
      result = kNcclInvalidArgument;
    }
    if (result != kNcclSuccess) {
      box.error = result;
      return result;
    }
    t.agreed = true;
    box.taken.store(t.begun, std::memory_order_release);
    *moved = true;
  }
  const uint64_t bytes = t.count * BytesOf(t.type);
  const uint64_t read = box.read.load(std::memory_order_relaxed);
  const uint64_t place = read % kRingBytes;
  const uint64_t n = std::min(
      {bytes - t.moved, box.written.load(std::memory_order_acquire) - read, kRingBytes - place});
  if (n > 0) {
    std::memcpy(t.data + t.moved, box.ring + place, n);
    t.moved += n;
    box.read.store(read + n, std::memory_order_release);
    *moved = true;
  }
  t.done = t.moved == bytes;
  return kNcclSuccess;
}

NcclResult Advance(StreamCall& call, bool* all_done, bool* moved) {
  *all_done = true;
  // Of two transfers with one peer in one direction the earlier goes first.
  bool busy[2][kRanksMax] = {};
  for (Transfer& each : call.transfers) {
    if (each.done) continue;
    *all_done = false;
    if (std::exchange(busy[each.sends][each.peer], true)) continue;
    const NcclResult result = each.sends ? AdvanceSend(call.comm, call.description, each, moved)
                                         : AdvanceReceive(call.comm, call.description, each, moved);
    if (result != kNcclSuccess) return result;
  }
  return kNcclSuccess;
}

// All ranks of a broadcast must have announced the same.
NcclResult CompareAnnouncements(StreamCall& call, bool* all_here) {
  *all_here = true;
  const Description& mine = call.description;
  for (int peer = 0; peer < call.comm->size; ++peer) {
    const Description* theirs = AnnouncedBy(call.comm, peer, mine.call);
    if (theirs == nullptr) {
      *all_here = false;
    } else if (theirs->kind != mine.kind) {
      return kNcclInvalidUsage;
    } else if (theirs->root != mine.root || theirs->count != mine.count ||
               theirs->type != mine.type) {
      return kNcclInvalidArgument;
    }
  }
  return kNcclSuccess;
}

NcclResult Execute(StreamCall& call) {
  Idle idle;
  bool all_here = call.description.kind == Description::kGroup;
  while (!call.comm->aborted) {
    bool moved = false;
    if (!all_here) {
      const NcclResult result = CompareAnnouncements(call, &all_here);
      if (result != kNcclSuccess) return result;
    } else {
      bool all_done = false;
      const NcclResult result = Advance(call, &all_done, &moved);
      if (result != kNcclSuccess || all_done) return result;
    }
    if (moved) {
      idle.Reset();
    } else {
      idle.Pause();
    }
  }
  return kNcclSuccess;
}

void RunOnStream(void* argument) {
  StreamCall* const call = static_cast<StreamCall*>(argument);
  Comm* const comm = call->comm;
  if (!comm->aborted && comm->error == kNcclSuccess) {
    Announce(comm, call->description);
    const NcclResult result = Execute(*call);
    if (result != kNcclSuccess) {
      comm->error = result;
    } else if (!comm->aborted) {
      comm->shared->ranks[comm->rank].calls_done.store(call->description.call,
                                                       std::memory_order_release);
    }
  }
  delete call;
  --comm->running;  // Last: whoever sees 0 may delete the communicator.
}

NcclResult Enqueue(Comm* comm, HostStream* stream, Description description,
                   std::vector<Transfer> transfers) {
  description.call = ++comm->calls;
  comm->unsettled = 2;
  ++comm->running;
  stream->Enqueue(&RunOnStream, new StreamCall{comm, description, std::move(transfers)});
  return kNcclInProgress;
}

NcclResult CheckCall(Comm* comm, const void* data, size_t count, int type, const void* stream) {
  if (!IsLive(comm)) return kNcclInvalidArgument;
  if (stream == nullptr || (data == nullptr && count > 0) || BytesOf(type) == 0) {
    return kNcclInvalidArgument;
  }
  if (!comm->ready || comm->unsettled > 0) return kNcclInvalidUsage;
  return static_cast<NcclResult>(comm->error.load());
}

NcclResult AddToGroup(bool sends, char* data, size_t count, NcclDataType type, int peer,
                      NcclComm handle, NcclStream stream) {
  Comm* const comm = static_cast<Comm*>(handle);
  NcclResult result = CheckCall(comm, data, count, type, stream);
  if (result == kNcclSuccess) {
    if (peer < 0 || peer >= comm->size || peer == comm->rank) {
      result = kNcclInvalidArgument;
    } else if (group_depth == 0 || (group_comm != nullptr && group_comm != comm)) {
      result = kNcclInvalidUsage;
    }
  }
  if (result != kNcclSuccess) {
    if (group_depth > 0) group_error = result;
    return result;
  }
  group_comm = comm;
  group_stream = static_cast<HostStream*>(stream);
  group_transfers.push_back(
      {.sends = sends, .data = data, .count = count, .type = type, .peer = peer});
  return kNcclSuccess;
}

NcclResult Join(Comm* comm) {
  const int fd = shm_open(comm->name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) return kNcclSystemError;
  const bool sized = ftruncate(fd, sizeof(Shared)) == 0;
  void* const memory =
      sized ? mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  close(fd);
  if (memory == MAP_FAILED) return kNcclSystemError;
  comm->shared = static_cast<Shared*>(memory);
  int none = 0;
  const bool first = comm->shared->size.compare_exchange_strong(none, comm->size);
  const bool mine =
      (first || none == comm->size) && comm->shared->ranks[comm->rank].joined.exchange(1) == 0;
  if (mine) ++comm->shared->joined;
  return mine ? kNcclSuccess : kNcclInvalidArgument;
}

}  // namespace

#define DW_EXPORT extern "C" __attribute__((visibility("default")))

DW_EXPORT NcclResult ncclGetVersion(int* version) {
  if (version == nullptr) return kNcclInvalidArgument;
  *version = 21400;
  return kNcclSuccess;
}

DW_EXPORT NcclResult ncclGetUniqueId(NcclUniqueId* id) {
  static std::atomic<int> made = 0;
  if (id == nullptr) return kNcclInvalidArgument;
  uint64_t chance = 0;
  if (getentropy(&chance, sizeof(chance)) != 0) return kNcclSystemError;
  *id = {};
  std::snprintf(id->internal, sizeof(id->internal), "/dw_test_nccl_%d_%d_%016llx", getpid(), ++made,
                static_cast<unsigned long long>(chance));
  return kNcclSuccess;
}

DW_EXPORT NcclResult ncclCommInitRankConfig(NcclComm* result, int size, NcclUniqueId id, int rank,
                                            NcclConfig* config) {
  if (result == nullptr || config == nullptr || config->size != sizeof(NcclConfig) ||
      config->magic != NcclConfig().magic || config->version != NcclConfig().version ||
      config->blocking != 0) {
    return kNcclInvalidArgument;
  }
  if (size < 1 || size > kRanksMax || rank < 0 || rank >= size || id.internal[0] != '/') {
    return kNcclInvalidArgument;
  }
  if (group_depth != 0) return kNcclInvalidUsage;
  Comm* const comm = new Comm;
  std::memcpy(comm->name, id.internal, sizeof(comm->name) - 1);
  comm->rank = rank;
  comm->size = size;
  const NcclResult joined = Join(comm);
  if (joined != kNcclSuccess || !Register(comm)) {
    if (comm->shared != nullptr) munmap(comm->shared, sizeof(Shared));
    delete comm;
    return joined != kNcclSuccess ? joined : kNcclInternalError;
  }
  *result = comm;
  return kNcclInProgress;
}

DW_EXPORT NcclResult ncclCommGetAsyncError(NcclComm handle, NcclResult* error) {
  Comm* const comm = static_cast<Comm*>(handle);
  if (!IsLive(comm) || error == nullptr) return kNcclInvalidArgument;
  if (comm->error != kNcclSuccess) {
    *error = static_cast<NcclResult>(comm->error.load());
  } else if (!comm->ready) {
    comm->ready = comm->shared->joined == comm->size;
    if (comm->ready) shm_unlink(comm->name);
    *error = comm->ready ? kNcclSuccess : kNcclInProgress;
  } else {
    *error = comm->unsettled > 0 && --comm->unsettled > 0 ? kNcclInProgress : kNcclSuccess;
  }
  return kNcclSuccess;
}

DW_EXPORT NcclResult ncclCommAbort(NcclComm handle) {
  Comm* const comm = static_cast<Comm*>(handle);
  if (!IsLive(comm)) return kNcclInvalidArgument;
  comm->aborted = true;
  Idle idle;
  while (comm->running > 0) idle.Pause();
  Remove(comm);
  return kNcclSuccess;
}

DW_EXPORT NcclResult ncclCommDestroy(NcclComm handle) {
  Comm* const comm = static_cast<Comm*>(handle);
  if (!IsLive(comm)) return kNcclInvalidArgument;
  if (group_depth != 0 || comm->running > 0) return kNcclInvalidUsage;
  bool unread = false;
  for (int peer = 0; peer < comm->size; ++peer) {
    const Mailbox& box = comm->shared->mailboxes[peer][comm->rank];
    unread |= box.posted > box.taken;
  }
  Remove(comm);
  return unread ? kNcclInvalidUsage : kNcclSuccess;
}

DW_EXPORT NcclResult ncclGroupStart() {
  ++group_depth;
  return kNcclSuccess;
}

DW_EXPORT NcclResult ncclGroupEnd() {
  if (group_depth == 0) return kNcclInvalidUsage;
  if (--group_depth > 0) return kNcclSuccess;
  const NcclResult error = std::exchange(group_error, kNcclSuccess);
  Comm* const comm = std::exchange(group_comm, nullptr);
  std::vector<Transfer> transfers = std::exchange(group_transfers, {});
  if (error != kNcclSuccess) return error;
  if (comm == nullptr) return kNcclSuccess;
  if (!IsLive(comm)) return kNcclInvalidArgument;
  return Enqueue(comm, group_stream, {.kind = Description::kGroup}, std::move(transfers));
}

DW_EXPORT NcclResult ncclSend(const void* data, size_t count, NcclDataType type, int peer,
                              NcclComm comm, NcclStream stream) {
  // Sends and receives are one struct; what is sent is not written.
  return AddToGroup(true, static_cast<char*>(const_cast<void*>(data)), count, type, peer, comm,
                    stream);
}

DW_EXPORT NcclResult ncclRecv(void* data, size_t count, NcclDataType type, int peer, NcclComm comm,
                              NcclStream stream) {
  return AddToGroup(false, static_cast<char*>(data), count, type, peer, comm, stream);
}

DW_EXPORT NcclResult ncclBroadcast(const void* send, void* receive, size_t count, NcclDataType type,
                                   int root, NcclComm handle, NcclStream stream) {
  Comm* const comm = static_cast<Comm*>(handle);
  const NcclResult result = CheckCall(comm, receive, count, type, stream);
  if (result != kNcclSuccess) return result;
  if (root < 0 || root >= comm->size) return kNcclInvalidArgument;
  if (group_depth != 0 || (comm->rank == root && send != receive)) return kNcclInvalidUsage;
  const Description description = {
      .kind = Description::kBroadcast, .type = type, .root = root, .count = count};
  std::vector<Transfer> transfers;
  for (int peer = 0; peer < comm->size; ++peer) {
    if (peer == comm->rank || (comm->rank != root && peer != root)) continue;
    transfers.push_back({.sends = comm->rank == root,
                         .data = static_cast<char*>(receive),
                         .count = count,
                         .type = type,
                         .peer = peer});
  }
  return Enqueue(comm, static_cast<HostStream*>(stream), description, std::move(transfers));
}

DW_EXPORT const char* ncclGetErrorString(NcclResult result) {
  switch (result) {
    case kNcclSuccess:
      return "no error";
    case kNcclUnhandledCudaError:
      return "unhandled cuda error";
    case kNcclSystemError:
      return "unhandled system error";
    case kNcclInternalError:
      return "internal error";
    case kNcclInvalidArgument:
      return "invalid argument";
    case kNcclInvalidUsage:
      return "invalid usage";
    case kNcclRemoteError:
      return "remote process exited or there was a network error";
    case kNcclInProgress:
      return "NCCL operation in progress";
  }
  return "unknown result code";
}

}  // namespace deltaworks::trainer
