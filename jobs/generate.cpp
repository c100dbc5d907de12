// Writes a text with a trained language model: continues a prompt byte by byte.
//
//   cohort generate jobs/gpt.toml --resume runs/gpt
//   cohort generate jobs/gpt.toml --resume runs/gpt --set 'generate={prompt="The meaning of life", length=300, temperature=0.5, seed=7}'
#include <cstdio>

#include "cohort/job/job.hpp"
#include "cohort/train/generate.hpp"

namespace cohort {
namespace {

int run(Communicator& world, JobArguments& arguments) {
  const auto show = [](std::string_view piece) {
    std::fwrite(piece.data(), 1, piece.size(), stdout);
    std::fflush(stdout);
  };
  generate(world, arguments.config, arguments.resume, show);
  if (world.rank() == 0) std::fputc('\n', stdout);
  return kExitDone;
}

const Registered<JobType> job{
    "generate",
    {.summary = "writes a text with a trained language model",
     .argument = JobArgument::job_file,
     .argument_help = "the job file of the run",
     .help = "  cohort generate jobs/gpt.toml --resume runs/gpt\n"
             "  cohort generate jobs/gpt.toml --resume runs/gpt --set 'generate={prompt=\"The meaning of life\", length=300, temperature=0.5, seed=7}'\n",
     .resumes = true,
     .run = run}};

}  // namespace
}  // namespace cohort
