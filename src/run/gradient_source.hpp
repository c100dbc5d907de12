#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "cohort/comm/communicator.hpp"
#include "cohort/data/pipeline.hpp"
#include "cohort/exchange/gradient_sink.hpp"
#include "cohort/run/replica.hpp"
#include "params/kept_statistics.hpp"
#include "run/replica_sums.hpp"
#include "run/setup.hpp"

namespace cohort {

/// The update that a rank makes its part of the gradient for.
struct UpdateShare {
  std::int64_t step = 0;             ///< from which the random numbers of its batches come, as for dropout
  std::int64_t samples = 1;          ///< of the update, over all ranks
  double scale = 1;                  ///< of the weights: where gradients are averaged and not summed, how many they are
};

/// One rank's part of an update: takes its batches from a pipeline, runs forward and backward, and has the gradient written to a sink,
/// weighted so that the sum over the ranks is the mean over the update's samples. What it does with a batch that has no samples for
/// this rank is known here alone: zeros where that will do, and a run that leaves no trace where the others need this rank to take
/// part. The same for replicas, workers and a replay. One thread.
class GradientSource {
 public:
  struct Hooks {
    /// Of a batch with samples: what came of it.
    std::function<void(const SampleBatch& batch, double weight, const BatchResult& result)> computed;
    /// After every batch.
    std::function<void()> after_batch = [] {};
  };

  /// `setup.replica` has been bound to `sink`, and the parameters have memory.
  GradientSource(Setup& setup, Profile& profile, GradientSink& sink, Hooks hooks);
  /// Collective over ranks whose models take statistics over the batches of all: they do that from here on.
  void sum_over(Communicator& replicas);

  /// Collective with the other ranks of the update. As many batches as train.accumulate says, or what the epoch has left.
  void make(BatchPipeline& data, const UpdateShare& share);

 private:
  void forward_backward(const SampleBatch& batch, double weight, std::int64_t micro_step);

  Setup& setup_;
  Profile& profile_;
  GradientSink& sink_;
  Hooks hooks_;
  std::unique_ptr<ReplicaSums> sums_;                // if the model takes statistics over all replicas
  std::optional<KeptStatistics> before_batch_;       // what a batch of no samples must not change
};

}  // namespace cohort
