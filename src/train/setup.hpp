#pragma once

#include <memory>
#include <string>

#include "cohort/comm/communicator.hpp"
#include "cohort/data/pipeline.hpp"
#include "cohort/train/optimizer.hpp"
#include "cohort/train/parameter_groups.hpp"
#include "cohort/train/parameters.hpp"
#include "cohort/train/replica.hpp"
#include "cohort/train/schedule.hpp"
#include "cohort/train/trainer.hpp"
#include "cohort/train/updater.hpp"
#include "train/report/rank_summary.hpp"

namespace cohort {

/// Everything that a job file describes, read and opened. Bound once, in this order, for training and evaluation alike, so both
/// accept the same file.
struct Setup {
  /// Collective. Parameters are laid out, but have no memory yet.
  Setup(Communicator& communicator, Section& config);
  /// Collective. All parameters and slots get memory.
  void place_parameters();

  TrainOptions train;
  CheckpointOptions checkpoint;
  TraceOptions trace;
  PipelineOptions pipeline;
  UpdaterOptions updater;
  UpdaterBuilder make_updater;
  std::unique_ptr<NodeGroup> group;                ///< null: every rank has parameters of its own
  std::string no_group;                            ///< why, for people
  std::string config_text;                         ///< resolved: given values and defaults
  std::shared_ptr<const Reader> training_data, validation_data;   ///< validation: may be null
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<ParameterGroups> groups;
  std::unique_ptr<Schedule> schedule;
  std::unique_ptr<Replica> replica;
  std::unique_ptr<Parameters> parameters;
};

/// Collective. Error failed_precondition, the same on all ranks, if the ranks have built different graphs: names the ranks and
/// the first node that differs.
void check_same_model(Communicator& communicator, const Graph& graph);

/// Collective. Places the parameters and loads them and the statistics of a checkpoint, named as `find_directory` takes it; the rest of its state is left alone.
void load_parameters(Communicator& communicator, Setup& setup, const std::string& checkpoint);

/// Collective. Replaces running statistics by their average over the ranks.
void average_statistics(Communicator& communicator, const Parameters& parameters);

/// Memory by purpose, but for the batches.
[[nodiscard]] MemorySummary memory_of(const Replica& replica, const Parameters& parameters, const Updater& updater);

/// Collective. One pass over the data; every rank takes its share.
[[nodiscard]] Evaluation evaluate(Communicator& communicator, Replica& replica, BatchPipeline& data);

}  // namespace cohort
