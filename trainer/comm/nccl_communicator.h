// NcclCommunicator: a Communicator between GPUs, over NCCL.
//
// Only NCCL's send, receive and broadcast are used: its all-reduce adds in an order of its own. A
// sum goes in rounds of one piece of every shard, as large as the scratch allows:
//
//   group: send my part of piece p to its owner, for all p;  receive the parts of my piece
//   add the parts of my piece, in rank order, on the device
//   group: send my piece's sum to all;  receive the others'
//
// all enqueued on one stream, without the host waiting in between. Headers are exchanged before, by
// the same means, which the host waits for.
//
// NCCL over NVLink or shared memory does not notice that a peer died or aborted: its kernels wait
// for ever. So every wait of ours has a deadline and ends with ncclCommAbort; and if the gang also
// has a TcpCommunicator (`control`, whose Broadcast may have carried the unique id), its
// connections serve as the alarm that makes the end come within seconds rather than at the
// deadline.
//
// Destroying a live NcclCommunicator is, like ncclCommDestroy, something that all ranks of a
// machine do together; Abort() first if others may be gone.

#ifndef DELTAWORKS_TRAINER_COMM_NCCL_COMMUNICATOR_H_
#define DELTAWORKS_TRAINER_COMM_NCCL_COMMUNICATOR_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "trainer/base/mutex.h"
#include "trainer/comm/collective_device.h"
#include "trainer/comm/communicator.h"
#include "trainer/comm/life.h"
#include "trainer/comm/message_header.h"
#include "trainer/comm/nccl_library.h"
#include "trainer/comm/shard.h"
#include "trainer/comm/tcp_communicator.h"

namespace deltaworks::trainer {

class NcclCommunicator final : public Communicator {
 public:
  struct Options {
    int rank = 0;
    int size = 1;     // 1..1024.
    NcclUniqueId id;  // Made by rank 0 with MakeUniqueId, carried by the caller; size 1 needs none.
    absl::Duration timeout = absl::Minutes(2);          // Of each call, as a whole.
    absl::Duration connect_timeout = absl::Minutes(2);  // Of Create.
    int64_t scratch_bytes = 64 << 20;                   // On the device: 4 KiB..1 GiB.
    // The alarm, or nullptr. Not owned, must outlive this object, and is aborted when this dies.
    TcpCommunicator* control = nullptr;
  };

  // Returns when all ranks have called it. `device` is not owned and must outlive the communicator.
  //   InvalidArgument    an option is out of bounds.
  //   DeadlineExceeded   not all ranks came within connect_timeout.
  //   Unavailable        `control` says that a peer is gone.
  //   Internal           NCCL or the device failed; names NCCL's error.
  static absl::StatusOr<std::unique_ptr<NcclCommunicator>> Create(const Options& options,
                                                                  const NcclLibrary& library,
                                                                  CollectiveDevice& device);
  ~NcclCommunicator() override;

  int rank() const override { return options_.rank; }
  int size() const override { return options_.size; }
  // `data` is the device's, and nothing that is enqueued on other streams may still use it.
  absl::Status OrderedSum(float* data, int64_t count) override;
  absl::Status Broadcast(void* data, int64_t bytes, int root) override;
  absl::Status Barrier() override;
  void Abort() override;

 private:
  NcclCommunicator(const Options& options, const NcclLibrary& library, CollectiveDevice& device);

  absl::Status Connect();
  // Runs one operation: bounds, headers, then `move`, which enqueues, then waits for the stream.
  absl::Status Call(Operation operation, int64_t count, int root,
                    const std::function<absl::Status()>& move);
  absl::Status Agree(const MessageHeader& mine);
  absl::Status EnqueueSum(float* data, int64_t count);
  absl::Status AddParts(float* own, int64_t count);
  absl::Status Grow(std::unique_ptr<DeviceBuffer>& buffer, int64_t bytes);
  float* PartOf(int peer) const;

  // One group of sends and receives, which `fill` calls.
  absl::Status Group(const std::function<absl::Status()>& fill);
  absl::Status Send(const void* data, int64_t count, NcclDataType type, int peer);
  absl::Status Receive(void* data, int64_t count, NcclDataType type, int peer);

  // OK if `result` is success, or in progress; else what NCCL's error is in our terms.
  absl::Status Check(NcclResult result, const char* call) const;
  // Waits until NCCL has taken what was enqueued; then until the stream has done it.
  absl::Status Settle();
  absl::Status WaitForStream();
  // OK, or why not to wait any longer.
  absl::Status MayWait();

  // The call under way ends, and with it, if `status` is an error, the communicator.
  absl::Status EndCall(absl::Status status);
  // By whoever owns comm_: the caller of an operation, or Abort() between operations.
  void TearDown();

  const Options options_;
  const NcclFunctions nccl_;
  CollectiveDevice& device_;
  Life life_;
  std::atomic<bool> aborted_ = false;

  Mutex mutex_;
  bool in_call_ ABSL_GUARDED_BY(mutex_) = false;

  // Of the call under way.
  std::string subject_;
  absl::Time deadline_;
  absl::Time grace_end_;
  absl::Time next_look_ = absl::InfinitePast();  // At `control`.

  NcclComm comm_ = nullptr;
  uint64_t sequence_ = 0;
  int64_t piece_floats_ = 0;
  std::vector<MessageHeader> headers_;
  std::unique_ptr<DeviceBuffer> device_headers_;
  std::unique_ptr<DeviceBuffer> scratch_;  // size - 1 pieces.
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_NCCL_COMMUNICATOR_H_
