// Communicator: what the ranks of a data-parallel gang say to each other.
//
// A gang is `size` processes, each with one device, that train one job together. All call the same
// operations, in the same order, with the same sizes:
//
//   rank 0   OrderedSum(gradients)   Broadcast(adapter, root 0)   Barrier()
//   rank 1   OrderedSum(gradients)   Broadcast(adapter, root 0)   Barrier()
//
// Before any data moves, every rank tells every other what it is about to do (message_header.h),
// and goes on once all have said the same. So a gang that disagrees gets an error on every rank,
// and never a wrong number. Implementations:
//
//   TcpCommunicator   a mesh of TCP connections; `data` is host memory.
//   NcclCommunicator  NCCL, loaded at run time; `data` is memory of the rank's GPU.
//
// One rank is the identity: every operation returns OK and touches nothing.
//
// Errors, of every operation; each names the rank, the operation, the peer and what was wanted:
//   InvalidArgument     a count, size or root is out of bounds: nothing was sent, and the
//                       communicator lives. Or another rank gave another one: it is dead.
//   FailedPrecondition  another rank is at another operation, or at another call.
//   Unavailable         the connection to a peer broke: it died, left or aborted.
//   DeadlineExceeded    the call took longer than Options.timeout; names who was waited for (NCCL
//                       does not say).
//   Aborted             Abort() was called on this rank.
//   Internal            the device or the library failed.
// After any error but an argument out of bounds, the communicator is dead: its connections are
// closed, so that the other ranks soon fail too, later calls return the same error, the contents
// of `data` are unspecified, and nothing touches them any more. The process lives and may join
// another gang. An operation may be OK on some ranks and fail on others, which learn of it in
// their next call.
//
// Thread rule: one thread calls operations; Abort may come from any, while the object lives.

#ifndef DELTAWORKS_TRAINER_COMM_COMMUNICATOR_H_
#define DELTAWORKS_TRAINER_COMM_COMMUNICATOR_H_

#include <cstdint>

#include "absl/status/status.h"

namespace deltaworks::trainer {

class Communicator {
 public:
  static constexpr int kSizeMax = 1024;                   // Ranks of a gang.
  static constexpr int64_t kBytesMax = int64_t{1} << 36;  // Of one operation's data.

  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // data[i] = ((data[i] of rank 0 + data[i] of rank 1) + ...) + data[i] of rank n-1, in f32, on
  // every rank. Each element is added by one rank, its owner (shard.h), in that order, and the
  // owner's bytes are everybody's: they depend on nothing but the n inputs. Elements do not mix, so
  // one rank's NaN reaches that element only.
  //   data  [count] f32, in place.
  virtual absl::Status OrderedSum(float* data, int64_t count) = 0;

  // The `bytes` bytes at `data` of rank `root` replace those of every other rank.
  virtual absl::Status Broadcast(void* data, int64_t bytes, int root) = 0;

  // Returns once every rank has called it.
  virtual absl::Status Barrier() = 0;

  // Makes the call under way on this rank return Aborted, and those of the others Unavailable,
  // within seconds. Idempotent. Does not wait for the call under way.
  virtual void Abort() = 0;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_COMMUNICATOR_H_
