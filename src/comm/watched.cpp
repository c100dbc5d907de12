#include "cohort/comm/control.hpp"
#include "cohort/comm/watched.hpp"

#include <utility>

namespace cohort {
namespace {

constexpr double kForEver = 1e9;   // seconds

/// The watchdog's messages over a communicator of its own.
class CommunicatorChannel final : public WatchChannel {
 public:
  explicit CommunicatorChannel(Communicator communicator) : communicator_(std::move(communicator)) {}

  std::vector<std::string> all_gather(std::string_view mine) override { return cohort::all_gather(communicator_, mine); }
  void broadcast(std::span<std::byte> data) override { cohort::broadcast(communicator_, data, 0); }
  void wait_for_the_end(const std::function<bool()>& done) override {
    // A message that nobody sends: asking for it keeps the library moving what this rank has sent to others before.
    std::byte nothing{};
    Transfer pump(communicator_.transport());
    pump.receive((communicator_.rank() + 1) % communicator_.size(), 0, &nothing, 1);
    communicator_.set_timeout(kForEver);            // the others may have work for hours; the coordinators watch
    communicator_.wait(WaitStatus{.operation = "end of the job"}, [&] {
      (void)pump.done();
      return done();
    });
  }

 private:
  Communicator communicator_;
};

WatchedRank facts_of(Communicator& communicator) {
  WatchedRank rank{.context = communicator.context(), .membership = communicator.membership(),
                   .activity = communicator.rank_activity(), .cancel = communicator.cancel_flag()};
  for (int other = 0; other < communicator.size(); ++other) rank.machines.push_back(communicator.nodes().node_of(other));
  return rank;
}

}  // namespace

WatchedRank watched(Communicator& world) {
  WatchedRank rank = facts_of(world);
  rank.open_channel = [&world] { return std::make_unique<CommunicatorChannel>(world.duplicate()); };
  return rank;
}

WatchedRank watched_replacement(Communicator& parents) {
  WatchedRank rank = facts_of(parents);
  rank.open_channel = [&parents] { return std::make_unique<CommunicatorChannel>(parents.twin()); };
  return rank;
}

}  // namespace cohort
