#include "trainer/backend/adamw_scalars.h"

#include <cmath>

#include "trainer/backend/backend.h"

namespace deltaworks::trainer {

AdamWScalars ScalarsOf(const AdamWSettings& settings) {
  const double step = static_cast<double>(settings.step);
  AdamWScalars scalars;
  scalars.gradient_scale = static_cast<float>(settings.gradient_scale);
  scalars.decay = static_cast<float>(1 - settings.learning_rate * settings.weight_decay);
  scalars.beta1 = static_cast<float>(settings.beta1);
  scalars.one_minus_beta1 = static_cast<float>(1 - settings.beta1);
  scalars.beta2 = static_cast<float>(settings.beta2);
  scalars.one_minus_beta2 = static_cast<float>(1 - settings.beta2);
  scalars.step_size =
      static_cast<float>(settings.learning_rate / (1 - std::pow(settings.beta1, step)));
  scalars.root_correction2 = static_cast<float>(std::sqrt(1 - std::pow(settings.beta2, step)));
  scalars.epsilon = static_cast<float>(settings.epsilon);
  return scalars;
}

}  // namespace deltaworks::trainer
