#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/base/options.hpp"
#include "cohort/base/registry.hpp"

namespace cohort {

/// How a parameter task corrects a gradient for what the parameters have done since they were read (DC-ASGD, Zheng et al.,
/// ICML 2017, arXiv 1609.08326): g + λ g ⊙ g ⊙ (w - w_read).
struct DelayCompensation {
  double lambda = 0;              ///< 0: none
  bool adaptive = false;          ///< λ / sqrt(mean square + 1e-7), of the gradients that came before
  double decay = 0.95;            ///< of the mean square
  double clip = 1;                ///< a correction is at most so many times as large as its gradient; 0: no limit
};

/// What becomes of one gradient.
struct Judgement {
  bool accepted = false;          ///< false: it is dropped
  double weight = 0;              ///< in the sum
  bool applies = false;           ///< the sum becomes an update
  double sum_scale = 1;           ///< that the sum is multiplied by then
  double rate_factor = 1;         ///< of the update's learning rate
};

/// What has become of a worker's gradients.
struct WorkerCounts {
  std::int64_t applied = 0, dropped = 0;
  std::int64_t waited = 0;        ///< how often it was not allowed to begin at once
};

/// The rules by which gradients become updates where parameters lie on parameter tasks: which gradients count, how much, when
/// their sum is applied, and who may begin the next. No messages, no clock, no gradients: a replay and a job over MPI share
/// it. Versions count updates; a gradient's staleness is the number of updates since its parameters were read.
class Aggregation {
 public:
  explicit Aggregation(int workers);
  virtual ~Aggregation() = default;

  /// How many gradients of one kind an update wants, of the workers there are now.
  [[nodiscard]] virtual int per_update() const = 0;
  /// True: the workers share out one batch per update, `shares()` ways. False: each gradient has a batch of its own.
  [[nodiscard]] virtual bool in_steps() const noexcept = 0;
  [[nodiscard]] virtual int shares() const noexcept { return 1; }
  [[nodiscard]] virtual DelayCompensation compensation() const { return {}; }

  /// A worker asks for work: its share of the batch, or nothing if it has to wait. It has one gradient under way at most.
  [[nodiscard]] std::optional<int> begin(int worker);
  /// Its gradient is complete; `read`: the version of the parameters that it was computed with. `finite`: false drops it.
  [[nodiscard]] Judgement judge(int worker, std::int64_t read, bool finite = true);
  /// The update that was due has been made, or skipped: the version that is current from now on.
  void applied() noexcept { ++version_; }
  /// It is lost, or not to be asked: what it had begun will not come. Others may be allowed to begin then.
  void leave(int worker);
  void join(int worker);

  [[nodiscard]] std::int64_t version() const noexcept { return version_; }
  void start_at(std::int64_t version) noexcept { version_ = version; }
  [[nodiscard]] int present() const noexcept;                                       ///< workers that have not left
  [[nodiscard]] bool busy(int worker) const { return workers_[static_cast<std::size_t>(worker)].busy; }
  [[nodiscard]] bool is_present(int worker) const { return workers_[static_cast<std::size_t>(worker)].present; }
  [[nodiscard]] int under_way() const noexcept;                                     ///< gradients begun by present workers
  [[nodiscard]] const std::vector<WorkerCounts>& counts() const noexcept { return counts_; }
  /// By staleness, of all gradients that were judged.
  [[nodiscard]] const std::vector<std::int64_t>& staleness() const noexcept { return staleness_; }

 protected:
  struct Worker {
    bool present = true, busy = false, held = false;
    std::int64_t clock = 0;       ///< gradients that it has completed
  };
  [[nodiscard]] virtual std::optional<int> may_begin(int worker) = 0;
  [[nodiscard]] virtual Judgement weigh(int worker, std::int64_t staleness) = 0;
  virtual void gone(int /*worker*/) {}
  [[nodiscard]] const std::vector<Worker>& workers() const noexcept { return workers_; }

 private:
  std::vector<Worker> workers_;
  std::vector<WorkerCounts> counts_;
  std::vector<std::int64_t> staleness_;
  std::int64_t version_ = 0;
};

/// For so many workers.
using AggregationBuilder = std::function<std::unique_ptr<Aggregation>(int workers)>;

/// How such rules enter, for workers that send their gradients to parameter tasks: their options are bound from the [updater]
/// section. In a job file they are named where updaters are.
struct AggregationType {
  std::function<AggregationBuilder(Section&)> make{};
};
template <>
inline constexpr std::string_view kKindOf<AggregationType> = "aggregation";

}  // namespace cohort
