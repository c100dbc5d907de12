#include "run/trainer_state.hpp"

#include <cmath>

namespace cohort {

void TrainerState::visit(StateVisitor& v) {
  v.value("train/step", step);
  v.value("train/applied", applied);
  v.value("train/skipped", skipped);
  v.value("train/samples", samples);
  v.value("data/epoch", position.epoch);
  v.value("data/sample", position.sample);
  v.value("schedule/previous_learning_rate", previous_rate);
  v.value("train/best", best);
  v.value("train/has_best", has_best);
  v.value("train/seed", seed);
  v.added_value("train/validation_due", validation_due);
  v.added_value("data/order", order);
  if (!classes.empty()) v.text("data/classes", classes);
  if (!fields.empty()) v.text("data/fields", fields);
}

bool TrainerState::take_score(double score) {
  if (!std::isfinite(score) || (has_best != 0 && score <= best)) return false;
  has_best = 1;
  best = score;
  return true;
}

}  // namespace cohort
