#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cohort/base/options.hpp"
#include "cohort/comm/communicator.hpp"
#include "cohort/data/reader.hpp"
#include "cohort/run/aggregation.hpp"

namespace cohort {

/// The [train] section.
struct TrainOptions {
  std::string directory = "runs/train";   ///< of metrics, checkpoints, TensorBoard log; a fresh run never reuses one
  std::int64_t epochs = 1;
  std::int64_t max_steps = 0;              ///< 0: no limit but the epochs
  std::uint64_t seed = 1;                  ///< of initial values, dropout
  std::string device = "CPU:0";
  int threads = 0;                         ///< of kernels; 0: this rank's share of the cores that the launcher gave
  bool deterministic = false;              ///< the same bits for any threads, buckets, overlap
  std::string precision = "fp32";          ///< or "bf16", "bf16_native": of what enters products, see exec's Precision
  std::string updater = "sync_replicas";
  std::int64_t accumulate = 1;             ///< batches per update
  double clip_norm = 0;                    ///< 0: no clipping
  std::int64_t max_skipped = 20;           ///< steps in a row with gradients that are not finite before the run gives up
  std::int64_t log_every = 20;             ///< steps
  std::int64_t validate_every = 1;         ///< epochs; 0: only at the end
  bool check_replicas = false;             ///< compare a hash of the parameters between the ranks after every step

  TrainOptions() = default;
  explicit TrainOptions(Section& section);
};

/// The [checkpoint] section.
struct CheckpointOptions {
  std::int64_t every_steps = 0;            ///< 0: at the end of epochs only
  std::int64_t every_epochs = 1;           ///< 0: never at the end of an epoch
  int keep = 3;

  CheckpointOptions() = default;
  explicit CheckpointOptions(Section& section);
};

/// The [warmup] section: short for a first phase in which few replicas train and the other ranks follow.
struct WarmupOptions {
  int replicas = 1;
  std::int64_t epochs = 0;                 ///< 0: no warm-up

  WarmupOptions() = default;
  explicit WarmupOptions(Section& section);
};

/// An entry of [[phase]]: some epochs that are trained in one way. In [phase.updater] `type` names another updater than
/// train.updater, beside its options.
struct PhaseOptions {
  std::int64_t epochs = 0;                 ///< 0: all that are left, in the last one only
  int replicas = 0;                        ///< the first so many ranks train, the others follow; 0: all
  std::int64_t batch = 0;                  ///< samples per rank and step; 0: as [data] says

  PhaseOptions() = default;
  explicit PhaseOptions(Section& section);
};

/// Means over a data set, the same on all ranks.
struct Evaluation {
  double loss = 0;
  std::vector<std::pair<std::string, double>> metrics;
  std::int64_t samples = 0;
};

struct TrainResult {
  std::int64_t steps = 0, skipped = 0;
  double loss = 0;                                  ///< of the last logged step
  std::optional<Evaluation> validation;             ///< the last one
  bool stopped = false;                             ///< ended early because somebody asked (a signal)
  double seconds = 0;
  std::filesystem::path directory, checkpoint;      ///< checkpoint: empty if none was written
  std::vector<Membership::Loss> lost;               ///< workers of parameter tasks, on rank 0
  std::int64_t replaced = 0;                        ///< so many of them, by new processes
  std::vector<WorkerCounts> workers;                ///< what has become of their gradients, on rank 0
};

/// Collective. One training run as the job file describes it, by all ranks of the communicator; groups of a job may train side by
/// side, each by its own configuration. `resume`: empty, a checkpoint or a run's directory, or "auto". Error failed_precondition
/// if another job is at work in the run's directory.
TrainResult train(Communicator& communicator, Section& config, const std::string& resume = {});

/// In a process that parameter tasks have started in place of a worker that they lost: goes on with its work to the end of the
/// run. `parents`: those tasks, and this process as the last rank; `alone`: itself. Collective with their part of it.
void train_as_replacement(Communicator& parents, Communicator& alone, Section& config);

/// Collective. Evaluates a checkpoint (named as for `resume`; empty: the latest of the job file's run) on the validation
/// data of the job file. The training data may be missing: shapes are those of the validation data, classes the checkpoint's.
/// Error invalid_argument if there are no samples.
Evaluation evaluate(Communicator& communicator, Section& config, const std::string& checkpoint);

/// What the model of a job file is given.
struct JobFields {
  std::vector<Field> fields;
  std::string from;                                 ///< who says so: a section of the job file, or a checkpoint
};
/// Of its training data; where their files are missing, of its validation data or of the last checkpoint of its run. `alone`: a
/// communicator of this rank. Error not_found, with all that is missing, if nothing of that is there.
[[nodiscard]] JobFields fields_of_job(Communicator& alone, Section& config);

}  // namespace cohort
