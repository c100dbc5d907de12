#pragma once

#include <cstdint>
#include <string>

#include "cohort/data/pipeline.hpp"
#include "cohort/params/state.hpp"

namespace cohort {

/// What the trainer itself must remember.
struct TrainerState final : Stateful {
  std::int64_t step = 0;                    ///< updates applied or skipped
  std::int64_t applied = 0, skipped = 0, samples = 0;
  Position position;
  double previous_rate = 0;
  double best = 0;                          ///< of the metric that chooses the best checkpoint
  std::int64_t has_best = 0;
  std::int64_t seed = 0;
  std::string classes;                      ///< names of classes, a line for each; empty: labels are numbers
  std::string fields;                       ///< what the model is given, a line for each field; empty: not kept
  std::int64_t order = 0;                   ///< in which huge sets are visited; 0: in that of a list, as earlier versions did
  std::int64_t validation_due = 0;          ///< 1: saved before the validation of this state: who resumes it begins with that

  void save(StateWriter& writer) const override;
  void load(StateReader& reader) override;
  /// Is the score above all before? Then it is the best from now on. NaN never is, or nothing could come after it.
  [[nodiscard]] bool take_score(double score);

 private:
  /// `Self`: const where `io` writes a checkpoint.
  template <class Io, class Self>
  static void describe(Io& io, Self& self);
};

}  // namespace cohort
