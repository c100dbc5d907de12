#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cohort/comm/transport.hpp"

namespace cohort {

/// Stands between a rank's communicators and their transports, and hears when the rank begins a step: `Communicator::decorate`.
/// One per rank, shared by all communicators made from the decorated one, maybe by several threads.
class TransportDecorator {
 public:
  virtual ~TransportDecorator() = default;
  /// The transport to use in place of `transport`, which it may return as it is. `job_ranks[r]`: rank r's in the job. Transports
  /// made from the returned one (subgroups, twins) must be decorated by that one.
  [[nodiscard]] virtual std::unique_ptr<Transport> wrap(std::unique_ptr<Transport> transport, std::vector<int> job_ranks) = 0;
  /// This rank begins a step. What this throws ends the step.
  virtual void begin_step(std::int64_t step) = 0;
  /// Data of this rank are going to move without messages of a transport; `how` says by what ("shared windows").
  virtual void on_bypass(const std::string& how) = 0;
};

}  // namespace cohort
