#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "cohort/base/thread_pool.hpp"
#include "cohort/comm/communicator.hpp"
#include "cohort/params/optimizer.hpp"
#include "cohort/params/parameters.hpp"
#include "cohort/run/aggregation.hpp"
#include "cohort/updaters/updater.hpp"
#include "params/slice_update.hpp"
#include "params/unit_table.hpp"
#include "tasks/wire_layout.hpp"

namespace cohort {

struct StoreOptions {
  int workers = 1;
  double clip_norm = 0;                    ///< of the averaged gradient, where it is measured; 0: none
  DelayCompensation compensation{};
};

/// The parameters of one parameter task, the sum of the gradients that have been accepted for the next update, and what it
/// takes to make it. No messages but those of sums over all tasks. One thread.
class ParameterStore {
 public:
  /// `kept`: after Parameters::keep. `tasks`: all parameter tasks, whose calls of `apply` are collective where they measure. Error
  /// invalid_argument for an optimizer that needs norms of whole parameters, where the task keeps parts of some.
  ParameterStore(Parameters& kept, const Optimizer& optimizer, ThreadPool& pool, Communicator& tasks, const StoreOptions& options);

  [[nodiscard]] std::int64_t version() const noexcept { return version_; }
  void start_at(std::int64_t version) noexcept { version_ = version; }

  /// Adds weight · decoded gradient, corrected as the options say.
  void accept(int worker, const WireLayout& layout, const std::byte* wire, double weight, const ExchangeContext& context);
  /// The same for a gradient as it lies in memory, shard by shard.
  void accept(int worker, const float* gradient, double weight);
  /// Makes the sum times `sum_scale` an update; then there is a new version. `measured`: its norm is found first, over all tasks,
  /// clipped, and if it is not finite the update is skipped.
  StepOutcome apply(const StepInfo& info, double sum_scale, bool measured);

  /// The two in one, without a sum, for an update of one gradient that lies in memory as float32, shard by shard.
  [[nodiscard]] bool takes_alone() const noexcept { return empty_ && read_.empty(); }
  StepOutcome apply_alone(const float* gradient, const StepInfo& info, double scale);

  /// The current values, shard by shard. They change with `apply`, which nobody else may read them during; `move_values` leaves
  /// those that there are to their readers.
  [[nodiscard]] const float* values() const { return size_ > 0 ? kept_.values().at(kept_.shard()->owned().front().begin) : nullptr; }
  [[nodiscard]] Tensor move_values();
  /// The current values, as the layout says.
  void encode(const WireLayout& layout, std::byte* wire, const ExchangeContext& context) const;
  void copy_values(float* to) const;
  /// The worker reads the current values: what corrections of its next gradient start from.
  void note_read(int worker);

  [[nodiscard]] std::int64_t size() const noexcept { return size_; }
  [[nodiscard]] std::int64_t bytes() const noexcept;               ///< beside values and slots

 private:
  [[nodiscard]] double sum_of_squares();
  void add(std::int64_t position, const float* gradient, std::int64_t n, double weight, int worker);
  [[nodiscard]] float compensated(float gradient, std::size_t at, int worker);

  Parameters& kept_;
  ThreadPool& pool_;
  Communicator& tasks_;
  StoreOptions options_;
  std::int64_t size_;
  std::vector<float> sum_, decoded_;
  std::vector<std::vector<float>> read_;   // by worker: the values that it has; only with compensation
  std::vector<float> mean_square_;         // adaptive compensation only
  std::vector<double> squares_;            // by strip
  bool empty_ = true;
  std::optional<UnitTable> partials_;
  std::optional<SliceUpdate> update_;
  std::int64_t version_ = 0;
};

}  // namespace cohort
