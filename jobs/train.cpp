// Trains the model of a job file on all ranks.
//
//   cohort train jobs/synthetic.toml
//   mpirun -n 2 cohort train jobs/lenet.toml
//   mpirun -n 2 cohort train jobs/lenet.toml --resume auto --set train.epochs=12
#include <fmt/core.h>

#include <string>
#include <utility>
#include <vector>

#include "cohort/job/job.hpp"
#include "cohort/train/trainer.hpp"

namespace cohort {
namespace {

void print_result(const TrainResult& result) {
  fmt::print("\n{} after {} steps in {:.1f} s{}\n", result.stopped ? "Stopped as asked" : "Done", result.steps, result.seconds,
             result.skipped > 0 ? fmt::format(", {} of them skipped", result.skipped) : "");
  if (result.validation) {
    fmt::print("  {:<14} {:.4f} on {} samples\n", "loss", result.validation->loss, result.validation->samples);
    for (const auto& [name, value] : result.validation->metrics) fmt::print("  {:<14} {:.4f}\n", name, value);
  }
  fmt::print("  {:<14} {}\n  {:<14} {}\n", "metrics", (result.directory / "metrics.jsonl").string(), "TensorBoard",
             (result.directory / "tensorboard").string());
  if (!result.checkpoint.empty()) fmt::print("  {:<14} {}\n", "checkpoint", result.checkpoint.string());
}

/// For whoever watches the job.
std::vector<std::pair<std::string, std::string>> facts(const TrainResult& result) {
  std::vector<std::pair<std::string, std::string>> texts{{"steps", std::to_string(result.steps)}};
  if (result.stopped) texts.emplace_back("stopped", "as asked");
  if (result.replaced > 0) texts.emplace_back("workers replaced", std::to_string(result.replaced));
  if (!result.checkpoint.empty()) texts.emplace_back("checkpoint", result.checkpoint.string());
  return texts;
}

int run(Communicator& world, JobArguments& arguments) {
  // 0. Where ranks have lost one of theirs and started this process in its place: go on with its work.
  if (arguments.parents != nullptr) {
    train_as_replacement(*arguments.parents, world, arguments.config);
    return kExitDone;
  }
  // 1. Train; the section says everything about it.
  const TrainResult result = train(world, arguments.config, arguments.resume);
  // 2. Say what came out, and where it is.
  if (world.rank() == 0) print_result(result);
  arguments.outcome.stopped = result.stopped;
  arguments.outcome.facts = facts(result);
  return kExitDone;
}

const Registered<JobType> job{"train",
                              {.summary = "trains the model of a job file",
                               .argument = JobArgument::job_file,
                               .argument_help = "what to train, on what, and how; jobs/*.toml are examples",
                               .help = "  cohort train jobs/synthetic.toml\n"
                                       "  mpirun -n 2 cohort train jobs/lenet.toml\n"
                                       "  mpirun -n 2 cohort train jobs/lenet.toml --resume auto --set train.epochs=12\n",
                               .resumes = true,
                               .run = run}};

}  // namespace
}  // namespace cohort
