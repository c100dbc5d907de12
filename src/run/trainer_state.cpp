#include "run/trainer_state.hpp"

#include <cmath>

namespace cohort {

template <class Io, class Self>
void TrainerState::describe(Io& io, Self& self) {
  io.value("train/step", self.step);
  io.value("train/applied", self.applied);
  io.value("train/skipped", self.skipped);
  io.value("train/samples", self.samples);
  io.value("data/epoch", self.position.epoch);
  io.value("data/sample", self.position.sample);
  io.value("schedule/previous_learning_rate", self.previous_rate);
  io.value("train/best", self.best);
  io.value("train/has_best", self.has_best);
  io.value("train/seed", self.seed);
  io.added_value("train/validation_due", self.validation_due);
  io.added_value("data/order", self.order);
  if (!self.classes.empty()) io.text("data/classes", self.classes);
  if (!self.fields.empty()) io.text("data/fields", self.fields);
}

void TrainerState::save(StateWriter& writer) const { describe(writer, *this); }
void TrainerState::load(StateReader& reader) { describe(reader, *this); }

bool TrainerState::take_score(double score) {
  if (!std::isfinite(score) || (has_best != 0 && score <= best)) return false;
  has_best = 1;
  best = score;
  return true;
}

}  // namespace cohort
