// AdamWScalars: what an AdamW update (backend.h) of one step multiplies and adds, computed once in
// double and rounded to f32, so that every backend that updates in f32 has the same bits. Also for
// kernels that nvcc compiles.

#ifndef DELTAWORKS_TRAINER_BACKEND_ADAMW_SCALARS_H_
#define DELTAWORKS_TRAINER_BACKEND_ADAMW_SCALARS_H_

namespace deltaworks::trainer {

struct AdamWSettings;

struct AdamWScalars {
  float gradient_scale = 1;
  float decay = 1;  // 1 - learning rate * weight decay.
  float beta1 = 0;
  float one_minus_beta1 = 0;
  float beta2 = 0;
  float one_minus_beta2 = 0;
  float step_size = 0;         // Learning rate / bias correction 1.
  float root_correction2 = 0;  // sqrt(bias correction 2).
  float epsilon = 0;
};

AdamWScalars ScalarsOf(const AdamWSettings& settings);

}  // namespace deltaworks::trainer

#endif  // DELTAWORKS_TRAINER_BACKEND_ADAMW_SCALARS_H_
