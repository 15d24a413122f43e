// ReferenceBackend: every operation of Backend as the plain loops of its definition. It is slow and
// it is the truth: the other backends are compared with it, and it is compared with finite
// differences (in f64). Tests only.

#ifndef DELTAWORKS_TRAINER_BACKEND_REFERENCE_REFERENCE_BACKEND_H_
#define DELTAWORKS_TRAINER_BACKEND_REFERENCE_REFERENCE_BACKEND_H_

#include <memory>

#include "trainer/backend/backend.h"

namespace deltaworks::trainer {

// `type`, kF64 or kF32, is both the compute and the wide type.
std::unique_ptr<Backend> NewReferenceBackend(DType type);
// Over a base in fp8; codes and scales are those of f32.
std::unique_ptr<Backend> NewFp8ReferenceBackend(DType type);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_REFERENCE_REFERENCE_BACKEND_H_
