#include "train/replica_sums.hpp"

#include <fmt/core.h>

#include "cohort/base/error.hpp"

namespace cohort {

void ReplicaSums::sum(std::span<float> values) {
  if (communicator_.size() == 1) return;
  const PhaseScope communicating(*communicator_.context().profile, Phase::exchange);
  struct Header {
    std::int64_t step, position, count;
    bool operator==(const Header&) const = default;
  };
  const auto gather = [&] {
    const PhaseScope waiting(*communicator_.context().profile, Phase::slowest);
    return communicator_.all_gather_value(Header{step_, position_++, std::ssize(values)});
  };
  const auto headers = gather();
  for (std::size_t r = 1; r < headers.size(); ++r) {
    if (headers[r] == headers[0]) continue;
    const auto text = [](const Header& h) { return fmt::format("sum {} of step {}, {} values", h.position, h.step, h.count); };
    fail(Code::failed_precondition, fmt::format("statistics over all replicas: rank 0 is at {}, rank {} at {}", text(headers[0]), r, text(headers[r])));
  }
  sums_.assign(values.begin(), values.end());
  communicator_.all_reduce(std::span<double>(sums_), Reduce::sum);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(sums_[i]);
}

}  // namespace cohort
