// CpuBackend with the kernels of each instruction set that this machine has, and with AMX's on
// emulated tiles.

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "trainer/backend/cpu/cpu_backend_testing.h"
#include "trainer/backend/cpu/kernels/tested_kernels.h"
#include "trainer/backend/parity/backends.h"

namespace deltaworks::trainer {

std::vector<TestedBackend> TestedBackends() {
  std::vector<TestedBackend> backends;
  for (const DType type : {DType::kF32, DType::kBF16}) {
    for (const KernelSet* kernels : TestedKernels(type)) {
      const std::string isa = kernels->isa;
      const auto make = [type, kernels](int threads) {
        auto backend =
            NewCpuBackendWithKernels({.compute_type = type, .threads = threads}, *kernels);
        CHECK(backend.ok()) << backend.status();
        return *std::move(backend);
      };
      backends.push_back({.name = absl::StrCat(NameOf(type), isa),
                          .type = type,
                          .numerics = absl::StrCat("cpu/", isa, "/"),
                          .thinning = isa == "generic" || isa == "avx2" ? 3 : 1,
                          .make = make});
    }
  }
  return backends;
}

}  // namespace deltaworks::trainer
