// Synchronous training with backup workers (Chen, Pan, Monga, Bengio, Jozefowicz, arXiv 1604.00981): an update averages the
// first n gradients of its step, whatever the other workers do; what comes later is dropped.
#include <algorithm>
#include <vector>

#include "cohort/run/aggregation.hpp"

namespace cohort {
namespace {

struct SyncOptions {
  std::int64_t replicas_to_aggregate = 0;

  explicit SyncOptions(Section& section) {
    section.bind("replicas_to_aggregate", replicas_to_aggregate,
                 "gradients that an update averages: fewer than there are workers make the others backups, more let workers do several batches; 0: one of each worker",
                 between(0, 1'000'000));
  }
};

class SyncWithBackups final : public Aggregation {
 public:
  SyncWithBackups(int workers, const SyncOptions& options)
      : Aggregation(workers), n_(options.replicas_to_aggregate > 0 ? static_cast<int>(options.replicas_to_aggregate) : workers),
        taken_(static_cast<std::size_t>(std::max(n_, workers)), -1) {}

  int per_update() const override { return n_; }
  bool in_steps() const noexcept override { return true; }
  int shares() const noexcept override { return static_cast<int>(taken_.size()); }

 protected:
  /// Its own share of the step's batch, or, where there are fewer workers than gradients wanted, one that nobody has.
  std::optional<int> may_begin(int worker) override {
    enter_step();
    const auto begun = std::ranges::count(taken_, worker), all = std::ssize(taken_) - std::ranges::count(taken_, -1);
    const int others = std::max(present(), 1), each = (n_ + others - 1) / others;
    if (begun >= each || all >= std::max(n_, others)) return {};
    auto share = taken_.begin() + worker;
    if (*share != -1) share = std::ranges::find(taken_, -1);
    if (share == taken_.end()) return {};
    *share = worker;
    return static_cast<int>(share - taken_.begin());
  }

  Judgement weigh(int, std::int64_t staleness) override {
    enter_step();
    if (staleness > 0) return {};
    return {.accepted = true, .weight = 1, .applies = ++accepted_ == n_, .sum_scale = 1.0 / n_};
  }

  /// What it has begun and not finished is free again. The finished shares of a worker that has left keep its number.
  void gone(int worker) override {
    enter_step();
    const auto last = std::find(taken_.rbegin(), taken_.rend(), worker);
    if (last != taken_.rend()) *last = -1;
  }

 private:
  void enter_step() {
    if (step_ == version()) return;
    step_ = version();
    accepted_ = 0;
    std::ranges::fill(taken_, -1);
  }

  int n_;
  std::vector<int> taken_;          // by share of the step's batch: who has begun it; -1: nobody
  int accepted_ = 0;
  std::int64_t step_ = -1;
};

const Registered<AggregationType> sync_with_backups{
    "sync_with_backups", {.make = [](Section& section) -> AggregationBuilder {
                            return [options = SyncOptions(section)](int workers) { return std::make_unique<SyncWithBackups>(workers, options); };
                          }}};

}  // namespace
}  // namespace cohort
