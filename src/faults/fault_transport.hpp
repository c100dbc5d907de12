#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "cohort/base/context.hpp"
#include "cohort/comm/transport.hpp"
#include "cohort/faults/fault_injection.hpp"
#include "cohort/watch/waiting.hpp"

namespace cohort {

/// What goes wrong on one rank, shared by all its communicators.
struct Injection {
  std::shared_ptr<const FaultPlan> plan;
  std::shared_ptr<const RankActivity> activity;
  std::shared_ptr<const CancelFlag> cancel;
  Context context;
  bool thread_ranks = false;         // the ranks are threads of one process
  std::atomic<bool> warned{false};

  /// Once: that messages are to be faulty, but something moves data without them.
  void warn_of(const std::string& what);
};

/// Hands messages to `below`, but for what the plan does to them. `job_ranks[r]`: rank r's in the job. A message that is
/// delayed leaves in the first call of `test` after its time, which is when a rank that waits looks; its data must stay as it
/// is until then, as always. Given up before, it never leaves.
[[nodiscard]] std::unique_ptr<Transport> make_fault_transport(std::unique_ptr<Transport> below, std::shared_ptr<Injection> injection,
                                                              std::vector<int> job_ranks);

/// What befalls this rank at the beginning of `step`.
void suffer_step(const Injection& injection, std::int64_t step);

}  // namespace cohort
