// An AdapterPart on the card.

#ifndef DELTAWORKS_TRAINER_BACKEND_CUDA_ADAPTER_TABLE_H_
#define DELTAWORKS_TRAINER_BACKEND_CUDA_ADAPTER_TABLE_H_

#include <cstdint>
#include <vector>

#include "trainer/backend/cuda/adapter_plan.h"
#include "trainer/backend/cuda/gpu.h"

namespace deltaworks::trainer::cuda {

struct UploadedPart {
  AdapterTable table;
  std::vector<const Column*> linear_columns;  // [linear_width] each.
};

int64_t TableBytes(const AdapterPart& part);
// `device` has TableBytes(part), 16 bytes aligned, and outlives the result.
UploadedPart Upload(Gpu& gpu, const AdapterPart& part, void* device);

}  // namespace deltaworks::trainer::cuda

#endif  // DELTAWORKS_TRAINER_BACKEND_CUDA_ADAPTER_TABLE_H_
