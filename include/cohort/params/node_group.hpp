#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

#include "cohort/comm/node_memory.hpp"
#include "cohort/tensor/device.hpp"

namespace cohort {

/// The ranks of one machine, which keep one copy of the parameters between them: each sums and updates its share, and nobody
/// has to gather anything. Ranks with the same place on their machines have the same share, and sum it among themselves.
class NodeGroup {
 public:
  /// Collective. Empty if the ranks can work that way, else the reason: a device whose memory the other ranks cannot reach,
  /// one rank per machine, or machines with different numbers of ranks.
  [[nodiscard]] static std::string why_not(Communicator& communicator, const Device& device);

  /// Collective. Precondition: `why_not` is empty.
  explicit NodeGroup(Communicator& communicator);

  [[nodiscard]] Communicator& node() noexcept { return node_; }                 ///< the ranks of this machine
  /// The ranks with this rank's place on all machines; null if there is one machine.
  [[nodiscard]] Communicator* between() noexcept { return between_ ? &*between_ : nullptr; }
  [[nodiscard]] bool leads() const noexcept { return node_.rank() == 0; }       ///< writes what all share, where one must

  /// Collective. One piece of zeroed memory for all ranks of the machine.
  [[nodiscard]] Buffer allocate(std::size_t bytes);
  /// Collective. Returns when all ranks of this machine have come, and makes what they wrote visible.
  void barrier();

 private:
  Communicator node_;
  std::optional<Communicator> between_;
  NodeMemory memory_;
  NodeBarrier barrier_;
};

}  // namespace cohort
