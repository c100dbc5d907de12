#pragma once

#include <string>
#include <vector>

#include "cohort/base/options.hpp"
#include "cohort/comm/communicator.hpp"
#include "cohort/data/reader.hpp"
#include "cohort/run/options.hpp"
#include "cohort/run/result.hpp"

namespace cohort {

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
