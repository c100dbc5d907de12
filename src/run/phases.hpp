#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cohort/base/options.hpp"
#include "cohort/data/pipeline.hpp"
#include "cohort/run/aggregation.hpp"
#include "cohort/run/options.hpp"
#include "cohort/updaters/updater.hpp"

namespace cohort {

/// How the samples of an epoch are dealt out.
struct PhaseBatches {
  PipelineOptions pipeline;
  int ways = 1;                       ///< so many take their share of each batch of the pipeline
};

/// All that train.updater may name: updaters, and aggregations of parameter tasks.
[[nodiscard]] std::vector<std::string> updater_names();

/// One entry of [[phase]], or what stands for one.
struct TrainingPhase : PhaseOptions {
  std::string updater;
  UpdaterBuilder make_updater;        ///< empty where the updater needs parameter tasks; else `aggregate` is
  AggregationBuilder aggregate;
  std::int64_t begin = 0, end = 0;    ///< epochs [begin, end); set by PhasePlan

  TrainingPhase() = default;
  /// `options`: those of the updater.
  TrainingPhase(std::string name, Section& options) { choose(std::move(name), options); }
  /// `usual`: what holds where the section says nothing.
  TrainingPhase(Section& section, const TrainingPhase& usual);

  /// Of so many ranks (or workers), those that train.
  [[nodiscard]] int active(int ranks) const noexcept { return replicas == 0 ? ranks : std::min(replicas, ranks); }
  [[nodiscard]] PipelineOptions pipeline(PipelineOptions usual, int ranks) const;
  /// Of one update. With parameter tasks, `ranks` are workers; where each gradient has a batch of its own, `ways` is how many of them
  /// an update averages, and the pipeline's batch that of one gradient.
  [[nodiscard]] PhaseBatches batches(const PipelineOptions& usual, int ranks) const;

 private:
  void choose(std::string name, Section& options);
};

/// How long a phase's epochs are.
struct PhaseLength {
  std::int64_t update_samples = 1, updates_per_epoch = 1;
  PhaseLength() = default;
  PhaseLength(const PipelineOptions& pipeline, int active, std::int64_t samples, std::int64_t accumulate);
  /// As updates of this phase: what a schedule calls its step, so that its epochs go on from phase to phase.
  [[nodiscard]] std::int64_t updates_before(const Position& position) const {
    return position.epoch * updates_per_epoch + position.sample / update_samples;
  }
};

/// What is trained how, by epoch.
class PhasePlan {
 public:
  PhasePlan() = default;
  /// Binds [warmup] and [[phase]]. Error invalid_argument.
  PhasePlan(Section& config, const TrainingPhase& usual, std::int64_t epochs);

  /// In order, without gaps; one at least.
  [[nodiscard]] std::span<const TrainingPhase> phases() const noexcept { return phases_; }
  [[nodiscard]] std::size_t at(std::int64_t epoch) const;

 private:
  std::vector<TrainingPhase> phases_;
};

}  // namespace cohort
