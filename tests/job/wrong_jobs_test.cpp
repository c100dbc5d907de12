// Each mistake of wrong_jobs.toml has the text that stands there: the whole text that a user gets, so that whoever changes one
// reads it.
#include <gtest/gtest.h>
#include <toml++/toml.h>

#include <filesystem>
#include <string>
#include <vector>

#include "cohort/comm/thread_ranks.hpp"
#include "cohort/faults/fault_injection.hpp"
#include "cohort/job/job.hpp"
#include "cohort/watch/detector.hpp"
#include "job/command_line.hpp"
#include "job/config.hpp"
#include "support/patience.hpp"
#include "support/temporary_folder.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryFolder;
using testing::write_bytes;

constexpr const char* kSmallJob = R"([train]
directory = "run"
epochs = 1
[model]
type = "mlp"
hidden = [8]
[data]
threads = 0
[data.train]
reader = "synthetic"
samples = 64
shape = [8, 8, 1]
[data.validation]
reader = "synthetic"
samples = 16
shape = [8, 8, 1]
)";

/// A folder to make mistakes in, as long as the object lives.
class Workplace {
 public:
  explicit Workplace(const std::string& job) : before_(fs::current_path()) {
    fs::current_path(folder_.path());
    write_bytes("job.toml", job);
    write_bytes("table.csv", "a,b,label\n1,2,0\n3,4,1\n");
    fs::create_directory("pictures");
  }
  Workplace(const Workplace&) = delete;
  Workplace& operator=(const Workplace&) = delete;
  ~Workplace() { fs::current_path(before_); }

 private:
  TemporaryFolder folder_;
  fs::path before_;
};

/// What the program does with a command line, on one rank, up to its error.
void run(const std::vector<std::string>& words) {
  std::vector<const char*> arguments{"cohort"};
  for (const std::string& word : words) arguments.push_back(word.c_str());
  const CommandLine line = parse_command_line(static_cast<int>(arguments.size()), arguments.data());
  for (const std::string& file : line.plugins) load_plugin(file);
  const JobType& job = Registry<JobType>::instance().get(line.job);
  const bool has_file = job.argument == JobArgument::job_file || line.argument.ends_with(".toml");
  Configuration configuration = load_configuration(has_file ? line.argument : "", line.settings);
  run_as_threads(1, [&](Communicator& world) {
    const DetectorOptions watchdog(configuration.root.child("watchdog"));
    const std::shared_ptr<const FaultPlan> faults = FaultPlan::from(configuration.root, 1);
    JobArguments given{.config = configuration.root, .argument = line.argument, .resume = line.resume};
    (void)job.run(world, given);
  }, {.timeout = testing::kHung});
}

/// The text that stands behind "error: ".
std::string error_of(const std::vector<std::string>& words) {
  try {
    run(words);
  } catch (const Error& error) {
    return std::string(error.what()) + " (" + std::string(name(error.code())) + ")";
  }
  return "no error";
}

TEST(WrongJobs, HaveTheTextThatTheTableSays) {
  const toml::table table = toml::parse_file(COHORT_WRONG_JOBS);
  std::size_t count = 0;
  for (const toml::node& node : *table["wrong"].as_array()) {
    const toml::table& mistake = *node.as_table();
    std::vector<std::string> words;
    std::string line = "cohort";
    for (const toml::node& word : *mistake["words"].as_array()) {
      words.push_back(*word.value<std::string>());
      line += " " + words.back();
    }
    const std::string job = mistake["job"].value_or(std::string(kSmallJob));
    SCOPED_TRACE(line + (mistake.contains("job") ? "\n" + job : ""));
    const Workplace workplace(job);
    EXPECT_EQ(error_of(words), mistake["error"].value_or(std::string()));
    ++count;
  }
  EXPECT_GE(count, 60u);
}

TEST(WrongJobs, TheJobWithoutMistakesHasNone) {
  const Workplace workplace(kSmallJob);
  EXPECT_EQ(error_of({"train", "job.toml"}), "no error");
  EXPECT_EQ(error_of({"evaluate", "job.toml"}), "no error");
}

}  // namespace
}  // namespace cohort
