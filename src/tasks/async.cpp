// Asynchronous training: every worker pushes gradients and pulls parameters on its own, and what is done about the staleness of
// gradients is a set of rules that can be combined. Downpour SGD; n-softsync and α0/τ (Zhang, Gupta, Lian, Liu, IJCAI 2016, arXiv
// 1511.05950); delay compensation (Zheng et al., ICML 2017); stale synchronous parallel (Ho et al., NeurIPS 2013).
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "cohort/run/aggregation.hpp"

namespace cohort {
namespace {

struct AsyncOptions {
  bool lr_by_staleness = false;
  std::int64_t drop_above = -1;
  std::string scale_back = "none";
  double scale_back_rate = 1;
  std::string compensation = "none";
  DelayCompensation compensate;
  std::int64_t bound = -1;
  std::int64_t soft_sync = 0;

  explicit AsyncOptions(Section& section) {
    section.bind("lr_by_staleness", lr_by_staleness, "divide the learning rate by max(1, staleness) (Zhang et al., IJCAI 2016)");
    section.bind("drop_above", drop_above, "drop gradients that are staler than this; -1: none", at_least(-1));
    section.bind("scale_back", scale_back, "multiply a gradient by 1/(1+c·s), 1/sqrt(1+c·s) or exp(-c·s) of its staleness s",
                 one_of({"none", "inverse", "inverse_sqrt", "exponential"}));
    section.bind("scale_back_rate", scale_back_rate, "c of scale_back", above(0));
    section.bind("delay_compensated", compensation, "correct a gradient for what has happened since its parameters were read (DC-ASGD)",
                 one_of({"none", "constant", "adaptive"}));
    section.bind("compensation_lambda", compensate.lambda = 0.04, "λ of delay_compensated", at_least(0));
    section.bind("compensation_decay", compensate.decay, "of the mean square of gradients, adaptive only", between(0, 1));
    section.bind("compensation_clip", compensate.clip, "a correction is at most so many times as large as its gradient, element by element; 0: no limit",
                 at_least(0));
    section.bind("bound", bound, "a worker that is more than so many gradients ahead of the slowest waits (stale synchronous parallel); -1: never",
                 at_least(-1));
    section.bind("soft_sync", soft_sync, "n: an update averages as many gradients as workers / n (n-softsync); 0: every gradient is an update",
                 between(0, 1'000'000));
    compensate.adaptive = compensation == "adaptive";
    if (compensation == "none") compensate.lambda = 0;
  }
};

class Async final : public Aggregation {
 public:
  Async(int workers, const AsyncOptions& options) : Aggregation(workers), options_(options) {}

  int per_update() const override {
    return options_.soft_sync == 0 ? 1 : std::max(1, present() / static_cast<int>(options_.soft_sync));
  }
  bool in_steps() const noexcept override { return false; }
  DelayCompensation compensation() const override { return options_.compensate; }

 protected:
  std::optional<int> may_begin(int worker) override {
    const Worker& mine = workers()[static_cast<std::size_t>(worker)];
    for (const Worker& other : workers()) {
      if (options_.bound >= 0 && other.present && mine.clock - other.clock > options_.bound) return {};
    }
    return 0;
  }

  /// The learning rate belongs to an update, staleness to a gradient: an update's rate is the mean of what its gradients ask
  /// for, and in the sum each counts by its part of that mean, so that plain SGD adds Σ α(s)·g / c.
  Judgement weigh(int, std::int64_t staleness) override {
    if (options_.drop_above >= 0 && staleness > options_.drop_above) return {};
    const auto s = static_cast<double>(staleness);
    const double rate = options_.lr_by_staleness ? 1 / std::max(1.0, s) : 1.0;
    rates_ += rate;
    Judgement judgement{.accepted = true, .weight = rate * scale(s), .applies = ++accepted_ >= per_update()};
    if (judgement.applies) {
      judgement.sum_scale = 1 / rates_;
      judgement.rate_factor = rates_ / std::exchange(accepted_, 0);
      rates_ = 0;
    }
    return judgement;
  }

 private:
  [[nodiscard]] double scale(double s) const {
    const double c = options_.scale_back_rate;
    if (options_.scale_back == "inverse") return 1 / (1 + c * s);
    if (options_.scale_back == "inverse_sqrt") return 1 / std::sqrt(1 + c * s);
    if (options_.scale_back == "exponential") return std::exp(-c * s);
    return 1;
  }

  AsyncOptions options_;
  int accepted_ = 0;
  double rates_ = 0;
};

const Registered<AggregationType> async{
    "async", {.make = [](Section& section) -> AggregationBuilder {
                return [options = AsyncOptions(section)](int workers) { return std::make_unique<Async>(workers, options); };
              }}};

}  // namespace
}  // namespace cohort
