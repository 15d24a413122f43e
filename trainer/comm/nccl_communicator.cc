#include "trainer/comm/nccl_communicator.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "trainer/base/status_macros.h"
#include "trainer/comm/monotonic.h"

namespace deltaworks::trainer {
namespace {

constexpr absl::Duration kSlice = absl::Milliseconds(1);  // Between two looks at the world.
constexpr absl::Duration kSettlePause = absl::Microseconds(20);
constexpr absl::Duration kAlarmPeriod = absl::Milliseconds(10);
// After the alarm: what is nearly done may end, since after the gang's last call somebody is first.
constexpr absl::Duration kGrace = absl::Seconds(2);
// How long an aborted stream may take to become idle, before its memory is given up for lost.
constexpr absl::Duration kDrain = absl::Seconds(10);
constexpr int64_t kAlignment = 16;

absl::Status CheckBetween(const char* name, int64_t got, int64_t least, int64_t most) {
  if (got >= least && got <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", got, ", want ", least, "..", most));
}

// Memory that something on a stream, which did not end, may still read and write.
struct Remains {
  std::vector<MessageHeader> headers;
  std::unique_ptr<DeviceBuffer> device_headers;
  std::unique_ptr<DeviceBuffer> scratch;
};

// Rather loses the memory than gives it to others.
void KeepForEver(Remains remains) {
  static Mutex* const mutex = new Mutex;
  static auto* const kept = new std::vector<Remains>;
  MutexLock lock(mutex);
  kept->push_back(std::move(remains));
}

Shard PieceOf(const Shard& shard, int64_t round, int64_t piece_floats) {
  const int64_t begin = std::min(shard.end, shard.begin + round * piece_floats);
  return {begin, std::min(shard.end, begin + piece_floats)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<NcclCommunicator>> NcclCommunicator::Create(
    const Options& options, const NcclLibrary& library, CollectiveDevice& device) {
  DW_RETURN_IF_ERROR(CheckBetween("size", options.size, 1, kSizeMax));
  DW_RETURN_IF_ERROR(CheckBetween("rank", options.rank, 0, options.size - 1));
  DW_RETURN_IF_ERROR(CheckBetween("scratch_bytes", options.scratch_bytes, 4 << 10, 1 << 30));
  std::unique_ptr<NcclCommunicator> communicator(new NcclCommunicator(options, library, device));
  if (options.size > 1) {
    if (absl::Status status = communicator->Connect(); !status.ok()) {
      return communicator->EndCall(std::move(status));
    }
  }
  return communicator;
}

NcclCommunicator::NcclCommunicator(const Options& options, const NcclLibrary& library,
                                   CollectiveDevice& device)
    : options_(options), nccl_(library.functions()), device_(device), headers_(options.size) {
  const int64_t floats = options.scratch_bytes / sizeof(float) / std::max(1, options.size - 1);
  piece_floats_ = std::max(kAlignment, floats / kAlignment * kAlignment);
}

NcclCommunicator::~NcclCommunicator() {
  if (comm_ == nullptr || !device_.MakeCurrent().ok()) return;
  nccl_.CommDestroy(comm_);
}

absl::Status NcclCommunicator::Connect() {
  subject_ = absl::StrCat("rank ", rank(), " of ", size(), ": connect");
  deadline_ = MonotonicNow() + options_.connect_timeout;
  grace_end_ = absl::InfiniteFuture();
  DW_RETURN_IF_ERROR(device_.MakeCurrent());
  NcclConfig config;
  DW_RETURN_IF_ERROR(Check(nccl_.CommInitRankConfig(&comm_, size(), options_.id, rank(), &config),
                           "ncclCommInitRankConfig"));
  return Settle();
}

absl::Status NcclCommunicator::OrderedSum(float* data, int64_t count) {
  return Call(Operation::kOrderedSum, count, 0, [&] { return EnqueueSum(data, count); });
}

absl::Status NcclCommunicator::Broadcast(void* data, int64_t bytes, int root) {
  return Call(Operation::kBroadcast, bytes, root, [&] {
    if (bytes == 0) return absl::OkStatus();
    DW_RETURN_IF_ERROR(
        Check(nccl_.Broadcast(data, data, bytes, kNcclUint8, root, comm_, device_.stream()),
              "ncclBroadcast"));
    return Settle();
  });
}

absl::Status NcclCommunicator::Barrier() {
  return Call(Operation::kBarrier, 0, 0, [] { return absl::OkStatus(); });
}

absl::Status NcclCommunicator::Call(Operation operation, int64_t count, int root,
                                    const std::function<absl::Status()>& move) {
  MessageHeader mine;
  mine.sequence = sequence_ + 1;
  mine.operation = operation;
  mine.root = root;
  mine.count = count;
  mine.rank = rank();
  mine.size = size();
  {
    MutexLock lock(&mutex_);
    DW_RETURN_IF_ERROR(life_.status());
    DW_RETURN_IF_ERROR(CheckBounds(mine));
    if (size() == 1) return absl::OkStatus();
    in_call_ = true;
  }
  ++sequence_;
  subject_ = Describe(mine);
  deadline_ = MonotonicNow() + options_.timeout;
  grace_end_ = absl::InfiniteFuture();
  absl::Status status = device_.MakeCurrent();
  if (status.ok()) status = Agree(mine);
  if (status.ok()) status = move();
  if (status.ok()) status = WaitForStream();
  return EndCall(std::move(status));
}

absl::Status NcclCommunicator::Agree(const MessageHeader& mine) {
  constexpr int64_t kBytes = sizeof(MessageHeader);
  headers_[rank()] = mine;
  DW_RETURN_IF_ERROR(Grow(device_headers_, size() * kBytes));
  char* const slots = static_cast<char*>(device_headers_->data());
  char* const own = slots + rank() * kBytes;
  DW_RETURN_IF_ERROR(device_.CopyToDevice(&headers_[rank()], own, kBytes));
  DW_RETURN_IF_ERROR(Group([&] {
    for (int peer = 0; peer < size(); ++peer) {
      if (peer == rank()) continue;
      DW_RETURN_IF_ERROR(Send(own, kBytes, kNcclUint8, peer));
      DW_RETURN_IF_ERROR(Receive(slots + peer * kBytes, kBytes, kNcclUint8, peer));
    }
    return absl::OkStatus();
  }));
  DW_RETURN_IF_ERROR(device_.CopyToHost(slots, headers_.data(), size() * kBytes));
  DW_RETURN_IF_ERROR(WaitForStream());
  return CheckHeaders(mine, headers_);
}

absl::Status NcclCommunicator::EnqueueSum(float* data, int64_t count) {
  if (count == 0) return absl::OkStatus();
  const auto shard_of = [&](int owner) { return ShardOf(count, size(), owner); };
  const int64_t longest = shard_of(0).count();
  const int64_t piece = std::min(piece_floats_, longest);
  DW_RETURN_IF_ERROR(Grow(scratch_, (size() - 1) * piece_floats_ * int64_t{sizeof(float)}));
  for (int64_t round = 0; round * piece < longest; ++round) {
    const auto piece_of = [&](int owner) { return PieceOf(shard_of(owner), round, piece); };
    const Shard own = piece_of(rank());
    DW_RETURN_IF_ERROR(Group([&] {
      for (int peer = 0; peer < size(); ++peer) {
        if (peer == rank()) continue;
        const Shard theirs = piece_of(peer);
        DW_RETURN_IF_ERROR(Send(data + theirs.begin, theirs.count(), kNcclFloat32, peer));
        DW_RETURN_IF_ERROR(Receive(PartOf(peer), own.count(), kNcclFloat32, peer));
      }
      return absl::OkStatus();
    }));
    DW_RETURN_IF_ERROR(AddParts(data + own.begin, own.count()));
    DW_RETURN_IF_ERROR(Group([&] {
      for (int peer = 0; peer < size(); ++peer) {
        if (peer == rank()) continue;
        const Shard theirs = piece_of(peer);
        DW_RETURN_IF_ERROR(Send(data + own.begin, own.count(), kNcclFloat32, peer));
        DW_RETURN_IF_ERROR(Receive(data + theirs.begin, theirs.count(), kNcclFloat32, peer));
      }
      return absl::OkStatus();
    }));
  }
  return absl::OkStatus();
}

absl::Status NcclCommunicator::AddParts(float* own, int64_t count) {
  if (count == 0) return absl::OkStatus();
  float* const sum = rank() == 0 ? own : PartOf(0);
  for (int each = 1; each < size(); ++each) {
    DW_RETURN_IF_ERROR(device_.Add(each == rank() ? own : PartOf(each), sum, count));
  }
  if (rank() == 0) return absl::OkStatus();
  return device_.Copy(sum, own, count * int64_t{sizeof(float)});
}

absl::Status NcclCommunicator::Grow(std::unique_ptr<DeviceBuffer>& buffer, int64_t bytes) {
  if (buffer != nullptr && buffer->bytes() >= bytes) return absl::OkStatus();
  buffer.reset();
  DW_ASSIGN_OR_RETURN(buffer, device_.Allocate(bytes));
  return absl::OkStatus();
}

float* NcclCommunicator::PartOf(int peer) const {
  const int place = peer < rank() ? peer : peer - 1;
  return static_cast<float*>(scratch_->data()) + place * piece_floats_;
}

absl::Status NcclCommunicator::Group(const std::function<absl::Status()>& fill) {
  DW_RETURN_IF_ERROR(Check(nccl_.GroupStart(), "ncclGroupStart"));
  const absl::Status filled = fill();
  // Also after an error: the group is the thread's, and must not stay open.
  const NcclResult ended = nccl_.GroupEnd();
  DW_RETURN_IF_ERROR(filled);
  DW_RETURN_IF_ERROR(Check(ended, "ncclGroupEnd"));
  return Settle();
}

absl::Status NcclCommunicator::Send(const void* data, int64_t count, NcclDataType type, int peer) {
  if (count == 0) return absl::OkStatus();
  return Check(nccl_.Send(data, count, type, peer, comm_, device_.stream()), "ncclSend");
}

absl::Status NcclCommunicator::Receive(void* data, int64_t count, NcclDataType type, int peer) {
  if (count == 0) return absl::OkStatus();
  return Check(nccl_.Recv(data, count, type, peer, comm_, device_.stream()), "ncclRecv");
}

absl::Status NcclCommunicator::Check(NcclResult result, const char* call) const {
  if (result == kNcclSuccess || result == kNcclInProgress) return absl::OkStatus();
  std::string message =
      absl::StrCat(subject_, ": ", call, ": ", nccl_.GetErrorString(result), " (", result, ")");
  // A peer or the network between: both are the world's.
  if (result == kNcclRemoteError || result == kNcclSystemError) {
    return absl::UnavailableError(std::move(message));
  }
  return absl::InternalError(std::move(message));
}

absl::Status NcclCommunicator::Settle() {
  while (true) {
    NcclResult state = kNcclSuccess;
    DW_RETURN_IF_ERROR(Check(nccl_.CommGetAsyncError(comm_, &state), "ncclCommGetAsyncError"));
    DW_RETURN_IF_ERROR(Check(state, "NCCL"));
    if (state == kNcclSuccess) return absl::OkStatus();
    DW_RETURN_IF_ERROR(MayWait());
    absl::SleepFor(kSettlePause);
  }
}

absl::Status NcclCommunicator::WaitForStream() {
  bool done = false;
  while (!done) {
    DW_ASSIGN_OR_RETURN(done, device_.Wait(kSlice));
    DW_RETURN_IF_ERROR(Settle());
    if (!done) DW_RETURN_IF_ERROR(MayWait());
  }
  return absl::OkStatus();
}

absl::Status NcclCommunicator::MayWait() {
  if (aborted_) return absl::AbortedError(absl::StrCat(subject_, ": Abort() was called"));
  const absl::Time now = MonotonicNow();
  if (now >= deadline_) {
    return absl::DeadlineExceededError(absl::StrCat(
        subject_, ": timed out, waiting for other ranks (NCCL does not say for which)"));
  }
  if (options_.control == nullptr || now < next_look_) return absl::OkStatus();
  next_look_ = now + kAlarmPeriod;
  const absl::Status peers = options_.control->PeerStatus();
  if (peers.ok()) return absl::OkStatus();
  if (grace_end_ == absl::InfiniteFuture()) grace_end_ = now + kGrace;
  if (now < grace_end_) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(subject_, ": ", peers.message()));
}

absl::Status NcclCommunicator::EndCall(absl::Status status) {
  if (!status.ok()) {
    status = life_.End(std::move(status));
    TearDown();
  }
  MutexLock lock(&mutex_);
  in_call_ = false;
  if (status.ok() && aborted_) {  // Abort() came too late for the call and left the rest to us.
    TearDown();
  }
  return status;
}

void NcclCommunicator::TearDown() {
  if (options_.control != nullptr) options_.control->Abort();
  if (comm_ == nullptr || !device_.MakeCurrent().ok()) return;
  nccl_.CommAbort(std::exchange(comm_, nullptr));
  const absl::StatusOr<bool> idle = device_.Wait(kDrain);
  if (idle.ok() && *idle) return;
  KeepForEver({std::move(headers_), std::move(device_headers_), std::move(scratch_)});
}

void NcclCommunicator::Abort() {
  static_cast<void>(life_.End(
      absl::AbortedError(absl::StrCat("rank ", rank(), " of ", size(), ": Abort() was called"))));
  aborted_ = true;
  MutexLock lock(&mutex_);
  if (!in_call_) TearDown();
}

}  // namespace deltaworks::trainer
