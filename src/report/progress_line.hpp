#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "cohort/base/context.hpp"

namespace cohort {

/// What a person watching sees: on a terminal one live line, elsewhere plain lines now and then.
class ProgressLine {
 public:
  /// `print`: this rank does; the others only count.
  ProgressLine(const Context& context, bool print, std::int64_t epochs);

  void set_total(std::int64_t steps) noexcept { total_ = steps; }
  /// Who trains now, said in every line; empty: nothing.
  void set_team(std::string text) { team_ = std::move(text); }
  /// After each update, which was of `epoch` (from 0); cheap when nothing is due.
  void step(std::int64_t step, std::int64_t epoch, std::int64_t samples, double loss);
  /// A line that stays.
  void note(const std::string& text);
  void finish();

 private:
  [[nodiscard]] std::string line(std::int64_t step, std::int64_t epoch, double loss) const;

  const Context& context_;
  bool print_, terminal_;
  std::int64_t total_ = 0, epochs_;
  std::string team_;
  double started_, last_print_, window_start_;
  std::int64_t first_step_ = -1, last_step_ = 0, window_samples_ = 0;
  double rate_ = 0;
  bool line_open_ = false;
};

}  // namespace cohort
