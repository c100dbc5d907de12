#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cohort/comm/communicator.hpp"
#include "tasks/messages.hpp"
#include "tasks/task_layout.hpp"

namespace cohort {

/// A worker's line to the token task: tokens come in, answers go out, each with the number of the token.
class TokenLine {
 public:
  TokenLine(Communicator& client, const TaskLayout& layout);

  /// The next one, once; `poll` goes on meanwhile.
  template <class F>
  [[nodiscard]] const Token& next(F&& poll) {
    do {
      in_.receive(token_task_, task_tag::kToken, &token_, sizeof token_);
      client_.wait([&] { return WaitStatus{.operation = "work", .peer = token_task_, .step = token_.step}; }, [&] {
        poll();
        return in_.done();
      });
    } while (token_.number <= last_);        // came twice
    last_ = token_.number;
    return token_;
  }
  /// Waits until the last answer has left.
  void report(Done done);
  /// Floats behind an answer that announces them, or behind a token.
  void send(std::span<const float> statistics);
  [[nodiscard]] std::vector<float> receive(std::size_t averages);

 private:
  Communicator& client_;
  int token_task_;                           // its rank
  Transfer in_, out_;
  Token token_;
  Done done_;
  std::int64_t last_ = 0;                    // number of the last token
};

}  // namespace cohort
