// A job's spec (job.proto, common.proto) as the trainer's own structs: store and worker must read
// it the same way, so it is done here once. Absent optional fields take the defaults of job.proto.
// Ranges are checked by the scheduler when the job is created and by the trainer. Pure functions.

#ifndef DELTAWORKS_SERVICES_BASE_SPEC_CONVERSION_H_
#define DELTAWORKS_SERVICES_BASE_SPEC_CONVERSION_H_

#include "proto/deltaworks/v1/common.pb.h"
#include "proto/deltaworks/v1/job.pb.h"
#include "trainer/data/text_encoder.h"
#include "trainer/lora/lora_config.h"
#include "trainer/tensor.h"
#include "trainer/train/training_config.h"

namespace deltaworks::services {

trainer::LoraConfig ToLoraConfig(const v1::LoraConfig& lora);

// max_length absent: 1024. The store lowers it to the base's context before a job runs.
trainer::TextSettings ToTextSettings(const v1::TextSettings& text);

trainer::TrainingConfig ToTrainingConfig(const v1::TrainSpec& spec);

// kBF16 for BF16, kF8E4M3 for FP8, else kF32.
trainer::DType ToDType(v1::NumberType type);
// NUMBER_TYPE_UNSPECIFIED for what is none of them.
v1::NumberType ToNumberType(trainer::DType dtype);

}  // namespace deltaworks::services

#endif  // DELTAWORKS_SERVICES_BASE_SPEC_CONVERSION_H_
