#include "cohort/params/schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

const std::vector<std::string> kShapes = {"constant", "step", "cosine", "linear", "polynomial"};   // in the order of Shape

constexpr double kMostEpochs = 1e9;    // times 2^32 steps, the most of an epoch, a whole number of 64 bits

std::int64_t in_steps(double epochs, const TrainingLength& length) {
  return std::llround(epochs * static_cast<double>(length.steps_per_epoch));
}

}  // namespace

Schedule::Schedule(Section& section) {
  std::string type = kShapes.front();
  section.bind("type", type, "how the learning rate goes on after the warm-up", one_of(kShapes));
  shape_ = static_cast<Shape>(std::find(kShapes.begin(), kShapes.end(), type) - kShapes.begin());
  section.bind("learning_rate", learning_rate_, "the full rate, reached at the end of the warm-up", at_least(0));
  section.bind("scale_with_batch", scale_with_batch_, "multiply it by global batch / reference_batch");
  const std::int64_t usual_batch = reference_batch_;
  section.bind("reference_batch", reference_batch_, "the global batch that learning_rate is meant for", at_least(1));
  section.bind("warmup_epochs", warmup_epochs_, "epochs in which the rate rises to the full rate", between(0, kMostEpochs));
  section.bind("warmup_steps", warmup_steps_, "the same in steps; give one of the two", at_least(0));
  section.bind("warmup_from", warmup_from_, "where the warm-up starts, as a share of the full rate", between(0, 1));
  const std::string path = section.path();
  check(scale_with_batch_ || reference_batch_ == usual_batch, Code::invalid_argument,
        path + ".reference_batch: has a meaning only with " + path + ".scale_with_batch = true");
  check(warmup_epochs_ == 0 || warmup_steps_ == 0, Code::invalid_argument,
        path + ": give warmup_epochs or warmup_steps, not both");
  if (shape_ == Shape::step) bind_milestones(section);
  if (shape_ == Shape::polynomial) section.bind("power", power_, "exponent of the remaining share of training", above(0));
  if (shape_ != Shape::constant && shape_ != Shape::step) {
    section.bind("final_fraction", final_fraction_, "share of the full rate that is left at the end", between(0, 1));
  }
}

void Schedule::bind_milestones(Section& section) {
  section.bind("factor", factor_, "what the rate is multiplied by at each milestone", at_least(0));
  section.bind("milestones", milestones_, "epochs at which the rate drops", above(0, kMostEpochs));
  section.bind("every", every_, "epochs between two drops, in place of milestones", between(0, kMostEpochs));
  check(milestones_.empty() != (every_ == 0), Code::invalid_argument,
        section.path() + ".type = \"step\": needs either milestones or every");
  check(std::is_sorted(milestones_.begin(), milestones_.end()), Code::invalid_argument,
        section.path() + ".milestones: must ascend, as in [3, 4.5]");
}

const std::string& Schedule::type() const noexcept { return kShapes[static_cast<std::size_t>(shape_)]; }

std::int64_t Schedule::warmup_steps(const TrainingLength& length) const {
  return warmup_steps_ > 0 ? warmup_steps_ : in_steps(warmup_epochs_, length);
}

double Schedule::rate(std::int64_t step, const TrainingLength& length) const {
  if (step < 0 || length.steps_per_epoch < 1 || length.global_batch < 1) {
    fail(Code::internal, "learning rate asked of step " + std::to_string(step) + " with " +
                             std::to_string(length.steps_per_epoch) + " steps per epoch and a batch of " +
                             std::to_string(length.global_batch));
  }
  const double scale = static_cast<double>(length.global_batch) / static_cast<double>(reference_batch_);
  const double full = scale_with_batch_ ? learning_rate_ * scale : learning_rate_;
  const std::int64_t warmup = warmup_steps(length);
  if (step >= warmup) return full * decay(step, length);
  return full * (warmup_from_ + (1 - warmup_from_) * static_cast<double>(step) / static_cast<double>(warmup));
}

double Schedule::steps_passed(std::int64_t step, const TrainingLength& length) const {
  if (every_ > 0) {   // at least one step apart, however short `every` is
    return static_cast<double>(step / std::max<std::int64_t>(in_steps(every_, length), 1));
  }
  return static_cast<double>(std::count_if(milestones_.begin(), milestones_.end(),
                                           [&](double epoch) { return step >= in_steps(epoch, length); }));
}

double Schedule::decay(std::int64_t step, const TrainingLength& length) const {
  if (shape_ == Shape::constant) return 1;
  if (shape_ == Shape::step) return std::pow(factor_, steps_passed(step, length));
  const std::int64_t warmup = warmup_steps(length);
  const std::int64_t rest = std::max<std::int64_t>(length.total_steps - warmup, 1);
  const double left = 1 - std::min(static_cast<double>(step - warmup) / static_cast<double>(rest), 1.0);
  double share = left;
  if (shape_ == Shape::cosine) share = (1 + std::cos(std::numbers::pi * (1 - left))) / 2;
  if (shape_ == Shape::polynomial) share = std::pow(left, power_);
  return final_fraction_ + (1 - final_fraction_) * share;
}

}  // namespace cohort
