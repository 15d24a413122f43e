// UseTestNccl: makes NcclLibrary::Load() load the library made from test_nccl.cc, where Bazel puts
// it for tests, unless the environment names a library already.

#ifndef DELTAWORKS_TRAINER_COMM_TESTING_USE_TEST_NCCL_H_
#define DELTAWORKS_TRAINER_COMM_TESTING_USE_TEST_NCCL_H_

#include <cstdlib>

#include "trainer/comm/nccl_library.h"

namespace deltaworks::trainer {

inline void UseTestNccl() {
  setenv(NcclLibrary::kPathVariable, "trainer/comm/testing/libtest_nccl.so", /*replace=*/0);
}

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_COMM_TESTING_USE_TEST_NCCL_H_
