#include "run/replica_sums.hpp"

#include <fmt/core.h>

#include "cohort/base/error.hpp"
#include "cohort/comm/control.hpp"

namespace cohort {

ReplicaSums::ReplicaSums(Communicator& communicator)
    : communicator_(communicator.duplicate()), headers_(static_cast<std::size_t>(communicator.size())) {}

void ReplicaSums::agree(const Header& mine) {
  {
    const PhaseScope waiting(*communicator_.context().profile, Phase::slowest);
    all_gather_equal(communicator_, std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(headers_)));
  }
  for (std::size_t r = 1; r < headers_.size(); ++r) {
    if (headers_[r] == headers_[0]) continue;
    const auto text = [](const Header& h) {
      return fmt::format("sum {} of step {}, {} values", h.position, h.step, h.count);
    };
    fail(Code::failed_precondition, fmt::format("statistics over all replicas: rank 0 is at {}, rank {} at {}",
                                                text(headers_[0]), r, text(headers_[r])));
  }
}

void ReplicaSums::sum(std::span<float> values) {
  if (communicator_.size() == 1) return;
  const PhaseScope communicating(*communicator_.context().profile, Phase::exchange);
  agree({step_, position_++, std::ssize(values)});
  mine_.assign(values.begin(), values.end());
  gathered_.resize(mine_.size() * headers_.size());
  all_gather_equal(communicator_, std::as_bytes(std::span(mine_)), std::as_writable_bytes(std::span(gathered_)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    double sum = 0;
    for (std::size_t at = i; at < gathered_.size(); at += values.size()) sum += gathered_[at];
    values[i] = static_cast<float>(sum);
  }
}

}  // namespace cohort
