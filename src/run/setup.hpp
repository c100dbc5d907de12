#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cohort/cluster/cluster_spec.hpp"
#include "cohort/comm/communicator.hpp"
#include "cohort/data/pipeline.hpp"
#include "cohort/params/optimizer.hpp"
#include "cohort/params/parameter_groups.hpp"
#include "cohort/params/parameters.hpp"
#include "cohort/params/schedule.hpp"
#include "cohort/run/options.hpp"
#include "cohort/run/replay_options.hpp"
#include "cohort/run/replica.hpp"
#include "cohort/run/result.hpp"
#include "cohort/updaters/updater.hpp"
#include "report/rank_summary.hpp"
#include "run/phases.hpp"

namespace cohort {

class OpenCheckpoint;

/// Which data sets of a job file are opened. The options of the others are bound and checked all the same, so that the same
/// file does for everything; their files may be missing.
enum class DataUse { training, evaluation, none };

/// The data set of a section. Error invalid_argument if it has no samples.
[[nodiscard]] std::shared_ptr<const Reader> open_data(Section& section);

/// Everything that a job file describes, read and opened. Bound once, in this order, for training and evaluation alike, so both
/// accept the same file. Copies share what is behind pointers.
struct Description {
  explicit Description(Section& config, DataUse use = DataUse::training);
  /// Labels are places in `names` from now on. Error invalid_argument for a class that is not among them.
  void name_classes(const std::vector<std::string>& names);
  /// Do workers send their gradients to parameter tasks? The same in all phases.
  [[nodiscard]] bool with_tasks() const { return bool(phases.phases().front().aggregate); }

  TrainOptions train;
  CheckpointOptions checkpoint;
  TraceOptions trace;
  PipelineOptions pipeline;
  UpdaterOptions updater;
  UpdaterBuilder make_updater;
  PhasePlan phases;
  ReplayOptions replay;                            ///< off where the updater has no workers that send gradients
  ClusterOptions cluster;
  ModelBuilder build;
  std::string config_text;                         ///< resolved: given values and defaults
  std::shared_ptr<const Reader> training_data;     ///< null where it is not used
  std::shared_ptr<const Reader> validation_data;   ///< null where there is none, or it is not used; in training its fields are training's
  std::vector<Field> fields;                       ///< what the model is given; with no data open, whoever knows says it
  std::vector<std::string> classes;                ///< by label, in both; empty: labels are numbers
  std::string classes_note;                        ///< for people: of which classes there are no validation data
  std::shared_ptr<const Optimizer> optimizer;
  std::shared_ptr<const ParameterGroups> groups;
  std::shared_ptr<const Schedule> schedule;

 private:
  void open_sets(Section& data, DataUse use);
};

/// What it takes to train together: a description, of one phase, and what the ranks of a communicator make of it.
struct Setup : Description {
  /// Collective. Parameters are laid out, but have no memory yet.
  Setup(Communicator& communicator, Section& config) : Setup(communicator, Description(config)) {}
  Setup(Communicator& communicator, Description description);
  Setup(const Setup&) = delete;
  Setup& operator=(const Setup&) = delete;
  /// Of the same model, not placed.
  [[nodiscard]] std::unique_ptr<Parameters> make_parameters() const;
  /// Collective. All parameters and slots get memory.
  void place_parameters();

  std::unique_ptr<NodeGroup> group;                ///< null: every rank has parameters of its own
  std::string no_group;                            ///< why, for people
  std::unique_ptr<Replica> replica;
  std::unique_ptr<Parameters> parameters;
};

/// Collective. Error failed_precondition, the same on all ranks, if the ranks have built different graphs: names the ranks and
/// the first node that differs.
void check_same_model(Communicator& communicator, const Graph& graph);

/// Collective. Places the parameters and loads them and the statistics of a checkpoint; the rest of its state is left alone.
void load_parameters(Communicator& communicator, Setup& setup, OpenCheckpoint& checkpoint);

/// Collective. Replaces running statistics by their average over the ranks.
void average_statistics(Communicator& communicator, const Parameters& parameters);

/// Memory by purpose, but for the batches.
[[nodiscard]] MemorySummary memory_of(const Replica& replica, const Parameters& parameters, const Updater& updater);

/// Collective. One pass over the data; every rank takes its share. Nothing if a rank was asked to stop meanwhile: they ask each other
/// after each batch, since what a batch does may be collective.
[[nodiscard]] std::optional<Evaluation> evaluate(Communicator& communicator, Replica& replica, BatchPipeline& data,
                                  const std::function<void()>& after_batch = {});

}  // namespace cohort
