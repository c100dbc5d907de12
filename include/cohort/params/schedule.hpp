#pragma once

#include <cstdint>
#include <vector>

#include "cohort/base/options.hpp"

namespace cohort {

/// What a schedule has to know of the run, beside the step.
struct TrainingLength {
  std::int64_t steps_per_epoch = 1;
  std::int64_t total_steps = 1;
  std::int64_t global_batch = 1;   ///< samples per step over all ranks
};

/// The learning rate as a pure function of the step: nothing to save, the same on every rank. With full rate r, the rate is
///
///   constant     r
///   step         r · factor^k, k: milestones (in epochs) passed, or whole times `every` epochs passed
///   cosine       r · (e + (1 − e) (1 + cos π t) / 2)   (Loshchilov and Hutter 2017, "SGDR", eq. 5)
///   linear       r · (e + (1 − e) (1 − t))
///   polynomial   r · (e + (1 − e) (1 − t)^power)
///
/// where t runs from 0 at the end of the warm-up to 1 at total_steps, and e is `final_fraction`. In the warm-up the rate
/// rises linearly from `warmup_from` · r at step 0 to r; milestones count from the start of training (Goyal et al. 2017,
/// "Accurate, large minibatch SGD", section 2.2). With `scale_with_batch`, r is the learning rate times
/// global_batch / reference_batch (its linear scaling rule, section 2.1).
class Schedule {
 public:
  /// Binds the [schedule] section. Error invalid_argument.
  explicit Schedule(Section& section);

  /// The rate of the update that follows `step` others. Steps past the end keep the last rate.
  [[nodiscard]] double rate(std::int64_t step, const TrainingLength& length) const;
  [[nodiscard]] std::int64_t warmup_steps(const TrainingLength& length) const;
  [[nodiscard]] const std::string& type() const noexcept;      ///< as a job file calls it

 private:
  enum class Shape { constant, step, cosine, linear, polynomial };

  void bind_milestones(Section& section);
  [[nodiscard]] double decay(std::int64_t step, const TrainingLength& length) const;
  [[nodiscard]] double steps_passed(std::int64_t step, const TrainingLength& length) const;

  Shape shape_ = Shape::constant;
  double learning_rate_ = 0.01;
  bool scale_with_batch_ = false;
  std::int64_t reference_batch_ = 256;
  double warmup_epochs_ = 0, warmup_from_ = 0.1;
  std::int64_t warmup_steps_ = 0;
  double factor_ = 0.1, every_ = 0, final_fraction_ = 0, power_ = 2;
  std::vector<double> milestones_;
};

}  // namespace cohort
