#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cohort/comm/communicator.hpp"
#include "tasks/messages.hpp"
#include "tasks/outbox.hpp"

namespace cohort {

/// The token task's line to one worker: tokens go out, answers come in. Both are numbered, so that what comes twice is noticed.
/// Never waits.
class WorkerChannel {
 public:
  /// The worker is rank `at` of `line`. `statistics`: so many floats are all its statistics.
  WorkerChannel(Communicator& line, int at, std::size_t statistics);

  void send(Token token);
  /// Behind a token that announces them.
  void send(std::span<const float> averages);
  /// True if everything has been taken.
  bool progress() { return outbox_.progress(); }

  /// What has come; `is_news` says whether it had come before.
  [[nodiscard]] std::optional<Done> receive();
  [[nodiscard]] bool is_news(const Done& done);
  /// The worker has announced its statistics.
  void expect_statistics();
  [[nodiscard]] bool statistics_are_there() { return statistics_in_.done(); }
  [[nodiscard]] const std::vector<float>& statistics() const noexcept { return statistics_; }

 private:
  int at_;
  Outbox outbox_;
  Transfer in_, statistics_in_;
  std::unique_ptr<Done> done_ = std::make_unique<Done>();    // as it comes in
  std::vector<float> statistics_;
  std::int64_t sent_ = 0;                    // number of the last token
  std::int64_t heard_ = -1;                  // number of the token that was answered last
};

}  // namespace cohort
