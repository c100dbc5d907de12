#pragma once

#include <span>

#include "cohort/checkpoint/checkpoint.hpp"
#include "tasks/running_statistics.hpp"
#include "tasks/token_parts.hpp"

namespace cohort {

/// What a token task's work at a boundary comes to: averages, entries of the log, and files.
class TokenBoundary final : public TokenWorkHost {
 public:
  /// `kept`: where averages of running statistics belong. The parts are used once they are made.
  TokenBoundary(TokenParts& parts, const Parameters& kept) : parts_(parts), statistics_(kept) {}

  [[nodiscard]] std::size_t statistics() const { return statistics_.elements(); }
  void save_with(CheckpointWriter& writer) noexcept { writer_ = &writer; }

  [[nodiscard]] Boundary boundary() const override { return parts_.progress.boundary(); }
  [[nodiscard]] bool is_drained() override { return parts_.rules().in_steps() || parts_.rules().under_way() == 0; }
  void average_statistics() override;
  [[nodiscard]] bool save(bool best) override;
  void mark_best() override { writer_->mark_best(); }
  [[nodiscard]] bool needs_nobody() override;
  [[nodiscard]] bool take_evaluation(std::span<const double> sums) override { return parts_.progress.take_evaluation(sums); }
  void pass(bool end) override;
  void end() override { parts_.log.emit({.kind = LogKind::end, .complete = parts_.losses == 0 ? 1 : 0}); }

 private:
  TokenParts& parts_;
  RunningStatistics statistics_;
  CheckpointWriter* writer_ = nullptr;
};

}  // namespace cohort
