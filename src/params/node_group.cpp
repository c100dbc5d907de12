#include "cohort/comm/control.hpp"
#include "cohort/params/node_group.hpp"

#include <algorithm>

namespace cohort {

std::string NodeGroup::why_not(Communicator& communicator, const Device& device) {
  const bool reachable = device.info().host_accessible && device.info().kernels == "CPU";
  if (all_reduce(communicator, std::int64_t{reachable}, Reduce::min) == 0) return "the ranks of a machine cannot reach each other's device memory";
  const NodeMap& nodes = communicator.nodes();
  const std::size_t size = nodes.ranks_of(0).size();
  for (int node = 1; node < nodes.nodes(); ++node) {
    if (nodes.ranks_of(node).size() != size) return "machines have different numbers of ranks: " + nodes.text();
  }
  return size < 2 ? "there is one rank per machine" : "";
}

NodeGroup::NodeGroup(Communicator& communicator)
    : node_(communicator.split(communicator.nodes().node_of(communicator.rank()))), memory_(node_), barrier_(memory_.make_barrier()) {
  if (communicator.nodes().nodes() > 1) between_ = communicator.split(communicator.nodes().local_rank(communicator.rank()));
}

Buffer NodeGroup::allocate(std::size_t bytes) {
  const std::shared_ptr<SharedMemory> memory = node_.allocate_shared(leads() ? bytes : 0);
  return {.memory = std::shared_ptr<void>(memory, memory->part(0).data()), .bytes = bytes};
}

void NodeGroup::barrier() {
  barrier_.arrive();
  node_.wait([this] { return WaitStatus{.operation = "update of the parameters", .peer = barrier_.missing()}; },
             [this] { return barrier_.all_there(); });
}

}  // namespace cohort
