#include "tasks/worker_roster.hpp"

namespace cohort {

WorkerRoster::WorkerRoster(Communicator& service, std::span<const int> ranks, std::size_t statistics) : statistics_(statistics) {
  for (const int rank : ranks) peers_.emplace_back(service, rank, rank, statistics);
}

std::optional<int> WorkerRoster::admit() {
  if (announced_.empty()) return {};
  const auto [worker, line] = announced_.front();
  announced_.pop_front();
  TokenPeer& peer = (*this)[worker];
  TokenPeer next(*line, line->size() - 1, peer.rank, statistics_);
  next.life = peer.life + 1;
  former_.push_back(std::exchange(peer, std::move(next)));
  return worker;
}

}  // namespace cohort
