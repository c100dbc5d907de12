#include "cohort/comm/thread_ranks.hpp"

#include <exception>
#include <mutex>
#include <string>
#include <thread>

#include "cohort/base/error.hpp"
#include "comm/thread_transport.hpp"

namespace cohort {
namespace {

/// Keeps the first exception of any rank and ends the waits of the others.
class FirstError {
 public:
  explicit FirstError(int ranks) {
    for (int rank = 0; rank < ranks; ++rank) flags_.push_back(std::make_shared<CancelFlag>());
  }
  [[nodiscard]] const std::shared_ptr<CancelFlag>& flag(int rank) const { return flags_[static_cast<std::size_t>(rank)]; }

  void add(int rank, std::exception_ptr error, const std::string& text) {
    {
      const std::lock_guard lock(mutex_);
      if (first_ != nullptr) return;
      first_ = std::move(error);
    }
    for (const auto& flag : flags_) flag->set("rank " + std::to_string(rank) + " ended with an error: " + text);
  }
  void rethrow() const {
    if (first_ != nullptr) std::rethrow_exception(first_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr first_;
  std::vector<std::shared_ptr<CancelFlag>> flags_;
};

/// What a detector does for ranks that are processes: when one ends that may be lost, the others hear of it.
class Losses {
 public:
  explicit Losses(int ranks) {
    for (int rank = 0; rank < ranks; ++rank) memberships_.push_back(std::make_shared<Membership>());
  }
  [[nodiscard]] const std::shared_ptr<Membership>& of(int rank) const { return memberships_[static_cast<std::size_t>(rank)]; }
  void add(int rank, const std::string& why) {
    for (const auto& membership : memberships_) membership->lose(rank, "rank " + std::to_string(rank) + " ended with an error: " + why);
  }

 private:
  std::vector<std::shared_ptr<Membership>> memberships_;
};

Context context_of(int rank, int ranks, const ThreadRanksOptions& options) {
  Context context;
  context.rank = rank;
  context.ranks = ranks;
  context.log = Log("[rank " + std::to_string(rank) + "] ", options.log);
  context.clock = options.clock;
  return context;
}

}  // namespace

void run_as_threads(int ranks, const std::function<void(Communicator&)>& body, const ThreadRanksOptions& options) {
  check(ranks >= 1, Code::invalid_argument, "run_as_threads: at least one rank");
  std::vector<int> labels = options.nodes;
  if (labels.empty()) labels.assign(static_cast<std::size_t>(ranks), 0);
  check(labels.size() == static_cast<std::size_t>(ranks), Code::invalid_argument, "run_as_threads: one node label per rank");
  const auto group = make_thread_group(ranks);
  FirstError errors(ranks);
  Losses losses(ranks);
  const auto run_rank = [&](int rank) {
    const std::shared_ptr<Membership>& membership = losses.of(rank);
    try {
      Communicator communicator(make_thread_transport(group, rank), context_of(rank, ranks, options), NodeMap(labels),
                                errors.flag(rank));
      communicator.set_timeout(options.timeout);
      communicator.share(membership);
      body(communicator);
    } catch (const std::exception& error) {
      if (membership->may_lose(rank)) return losses.add(rank, error.what());
      errors.add(rank, std::current_exception(), error.what());
    } catch (...) {
      errors.add(rank, std::current_exception(), "an exception that is no std::exception");
    }
  };
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < ranks; ++rank) threads.emplace_back(run_rank, rank);
  }
  errors.rethrow();
}

}  // namespace cohort
