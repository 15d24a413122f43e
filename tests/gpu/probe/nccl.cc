#include <dlfcn.h>
#include <nccl.h>

#include <chrono>

#include "tests/gpu/probe/gpu.h"
#include "tests/gpu/probe/sections.h"

namespace deltaworks::gpu_probe {
namespace {

template <typename Function>
Function* Symbol(void* library, const char* name) {
  void* symbol = dlsym(library, name);
  if (symbol == nullptr) {
    std::fprintf(stderr, "libnccl.so.2 has no %s\n", name);
    std::exit(1);
  }
  return reinterpret_cast<Function*>(symbol);
}

}  // namespace

void AskNccl() {
  void* library = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::printf("not answered: %s\n", dlerror());
    return;
  }
#define PROBE_NCCL(name) auto* const name = Symbol<decltype(::nccl##name)>(library, "nccl" #name)
  PROBE_NCCL(GetVersion);
  PROBE_NCCL(GetUniqueId);
  PROBE_NCCL(CommInitRank);
  PROBE_NCCL(AllReduce);
  PROBE_NCCL(Broadcast);
  PROBE_NCCL(Send);
  PROBE_NCCL(Recv);
  PROBE_NCCL(GroupStart);
  PROBE_NCCL(GroupEnd);
  PROBE_NCCL(CommAbort);
#undef PROBE_NCCL
  int version = 0;
  PROBE_CHECK(GetVersion(&version));
  ncclUniqueId id = {};
  ncclComm_t communicator = nullptr;
  const auto begin = std::chrono::steady_clock::now();
  PROBE_CHECK(GetUniqueId(&id));
  PROBE_CHECK(CommInitRank(&communicator, 1, id, 0));
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();

  constexpr int64_t kCount = int64_t{42} << 20;  // Gradients of 8B at rank 16, in f32.
  constexpr int64_t kBytes = kCount * 4;
  const Buffer a(kBytes);
  const Buffer b(kBytes);
  FillNormalF32(a.as<float>(), kCount, 1, 1);
  const auto same = [&] { return DifferentWords(a.data(), b.data(), kBytes) == 0; };
  const auto cleared = [&] { PROBE_CHECK(cudaMemsetAsync(b.data(), 0xff, kBytes, Stream())); };

  cleared();
  const double reduce = Microseconds([&](int) {
    PROBE_CHECK(AllReduce(a.data(), b.data(), kCount, ncclFloat, ncclSum, communicator, Stream()));
  });
  const bool reduced = same();
  cleared();
  const double exchange = Microseconds([&](int) {
    PROBE_CHECK(GroupStart());
    PROBE_CHECK(Send(a.data(), kCount, ncclFloat, 0, communicator, Stream()));
    PROBE_CHECK(Recv(b.data(), kCount, ncclFloat, 0, communicator, Stream()));
    PROBE_CHECK(GroupEnd());
  });
  const bool exchanged = same();
  cleared();
  PROBE_CHECK(Broadcast(a.data(), b.data(), kCount, ncclFloat, 0, communicator, Stream()));
  const bool broadcast = same();
  PROBE_CHECK(CommAbort(communicator));
  std::printf(
      "version %d, one rank ready after %.2f s; 168 MB: sum %.0f us %s, send to itself "
      "%.0f us %s, broadcast %s; aborted\n",
      version, seconds, reduce, reduced ? "right" : "WRONG", exchange,
      exchanged ? "right" : "WRONG", broadcast ? "right" : "WRONG");
  std::fprintf(Records(),
               "{\"ask\":\"nccl\",\"version\":%d,\"init_s\":%.2f,\"sum_us\":%.0f,\"sum\":%d,"
               "\"exchange_us\":%.0f,\"exchange\":%d,\"broadcast\":%d}\n",
               version, seconds, reduce, reduced, exchange, exchanged, broadcast);
}

}  // namespace deltaworks::gpu_probe
