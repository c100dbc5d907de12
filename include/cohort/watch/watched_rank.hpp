#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/base/context.hpp"
#include "cohort/watch/membership.hpp"
#include "cohort/watch/waiting.hpp"

namespace cohort {

/// How the ranks that are watched talk to each other before the watchdog's own connections exist, and how they wait for the end
/// of the job. Whoever moves messages between ranks implements it. One thread at a time.
class WatchChannel {
 public:
  virtual ~WatchChannel() = default;
  /// Collective. What each rank gave, in rank order.
  [[nodiscard]] virtual std::vector<std::string> all_gather(std::string_view mine) = 0;
  /// Collective. `data` of rank 0 to all; the size must be the same everywhere.
  virtual void broadcast(std::span<std::byte> data) = 0;
  /// Waits until `done()`, however long that takes, and meanwhile keeps messages moving that this rank has sent to others
  /// before. Error cancelled when this rank's cancel flag is set.
  virtual void wait_for_the_end(const std::function<bool()>& done) = 0;
};

/// What a detector needs to know of the rank that it watches over. `watched(Communicator&)` in `comm/watched.hpp` fills it.
struct WatchedRank {
  Context context{};                 ///< its rank is the rank in the job
  std::vector<int> machines{};       ///< of each rank of the job, a number that those of the same machine share
  std::shared_ptr<Membership> membership = std::make_shared<Membership>();
  std::shared_ptr<RankActivity> activity = std::make_shared<RankActivity>();
  std::shared_ptr<CancelFlag> cancel = std::make_shared<CancelFlag>();
  /// Collective over all that are watched; called at most once, and only where there is a watchdog.
  std::function<std::unique_ptr<WatchChannel>()> open_channel{};
};

}  // namespace cohort
