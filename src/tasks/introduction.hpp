#pragma once

#include <string>

#include "cohort/comm/communicator.hpp"
#include "run/followers.hpp"
#include "run/run.hpp"

namespace cohort {

/// What a process must know that takes a worker's place in the middle of a run: the rest it reads from parameter tasks, as all
/// workers do.
class Introduction {
 public:
  /// A parameter task's side. `kept`: where the token task has the values that no gradient changes; `threads` of a worker's kernels.
  Introduction(const Run& run, const Parameters& kept, int threads);
  /// The new worker's side. Collective with `tell`; `parents` as `Communicator::spawn` returns it.
  explicit Introduction(Communicator& parents) { share(parents); }

  /// Collective over the group: what rank 0 has is told to all.
  void tell(Communicator& joined) { share(joined); }

  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }
  [[nodiscard]] const Beat& beat() const noexcept { return beat_; }
  [[nodiscard]] int threads() const noexcept { return threads_; }
  /// Running statistics and frozen parameters. Error failed_precondition if they are another model's.
  void give_others(const Parameters& parameters) const;

 private:
  void share(Communicator& joined);

  std::string directory_;
  Beat beat_{};
  int threads_ = 0;
  std::string others_;                         // as they lie in memory, one after the other
};

}  // namespace cohort
