// NCCL's types and functions, as they are in the library.
//
// One binary must run on machines with NCCL and without it, so we neither link it nor include its
// header; this says the same. Taken from nccl.h, where it has stood since NCCL 2.14 (compared with
// that of 2.28.9).

#ifndef DELTAWORKS_TRAINER_COMM_NCCL_API_H_
#define DELTAWORKS_TRAINER_COMM_NCCL_API_H_

#include <climits>
#include <cstddef>

namespace deltaworks::trainer {

// ncclResult_t, ncclDataType_t: enums, so ints in a call.
enum NcclResult : int {
  kNcclSuccess = 0,
  kNcclUnhandledCudaError = 1,
  kNcclSystemError = 2,
  kNcclInternalError = 3,
  kNcclInvalidArgument = 4,
  kNcclInvalidUsage = 5,
  kNcclRemoteError = 6,
  kNcclInProgress = 7,
};
enum NcclDataType : int { kNcclUint8 = 1, kNcclFloat32 = 7 };

// ncclUniqueId: what the ranks of a communicator have in common; passed by value.
struct NcclUniqueId {
  static constexpr int kBytes = 128;
  char internal[kBytes] = {};
};

// ncclConfig_t as of 2.14, its first fields; later versions read `version` and take the rest for
// undefined, as `padding` says to those that copy it.
struct NcclConfig {
  size_t size = sizeof(NcclConfig);
  unsigned int magic = 0xcafebeef;
  unsigned int version = 21400;
  int blocking = 0;
  int padding = INT_MIN;
};
static_assert(sizeof(NcclConfig) == 24);

using NcclComm = void*;    // ncclComm_t
using NcclStream = void*;  // cudaStream_t

// All functions return ncclResult_t unless said otherwise.
struct NcclFunctions {
  NcclResult (*GetVersion)(int* version) = nullptr;
  NcclResult (*GetUniqueId)(NcclUniqueId* id) = nullptr;
  NcclResult (*CommInitRankConfig)(NcclComm* comm, int size, NcclUniqueId id, int rank,
                                   NcclConfig* config) = nullptr;
  NcclResult (*CommGetAsyncError)(NcclComm comm, NcclResult* error) = nullptr;
  NcclResult (*CommAbort)(NcclComm comm) = nullptr;
  NcclResult (*CommDestroy)(NcclComm comm) = nullptr;
  NcclResult (*GroupStart)() = nullptr;
  NcclResult (*GroupEnd)() = nullptr;
  NcclResult (*Send)(const void* data, size_t count, NcclDataType type, int peer, NcclComm comm,
                     NcclStream stream) = nullptr;
  NcclResult (*Recv)(void* data, size_t count, NcclDataType type, int peer, NcclComm comm,
                     NcclStream stream) = nullptr;
  NcclResult (*Broadcast)(const void* send, void* receive, size_t count, NcclDataType type,
                          int root, NcclComm comm, NcclStream stream) = nullptr;
  const char* (*GetErrorString)(NcclResult result) = nullptr;
};

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_NCCL_API_H_
