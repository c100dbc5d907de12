// What compare_builds.py lays before the library of a build, with LD_PRELOAD: it adds the job `thread_ranks`, which is `train` by
// ranks that are threads, and notes what no run tells by itself: the text of every prepared step, and what was sent.
//
//   COHORT_COMPARE_NODES=0,0,1   the machine that each rank of `thread_ranks` pretends to be on
//   COHORT_COMPARE_NOTES=FOLDER  where the notes go: PROCESS-NUMBER.step, and PROCESS.sent at the end
#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "cohort/comm/thread_ranks.hpp"
#include "cohort/comm/transport.hpp"
#include "cohort/exec/session.hpp"
#include "cohort/job/job.hpp"
#include "cohort/train/trainer.hpp"
#include "job/config.hpp"

namespace cohort {
namespace {

std::string variable(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? "" : text;
}

/// The library's own function behind one of this file: a name that it does not have is an error of this file, not of the run.
template <class Function>
Function behind(const char* name) {
  void* const found = dlsym(RTLD_NEXT, name);
  if (found == nullptr) {
    fputs("observed_runs: the library has no ", stderr);
    fputs(name, stderr);
    fputs(": its signature has changed, and so must observed_runs.cpp\n", stderr);
    std::_Exit(99);
  }
  return reinterpret_cast<Function>(found);
}

/// Notes of one process. Threads of many ranks write them.
class Notes {
 public:
  void sent(std::size_t bytes) {
    messages_.fetch_add(1, std::memory_order_relaxed);
    bytes_.fetch_add(bytes, std::memory_order_relaxed);
  }
  void prepared(const std::string& text) {
    if (!folder_.empty()) std::ofstream(path("-" + std::to_string(steps_.fetch_add(1)) + ".step")) << text;
  }
  ~Notes() {
    if (!folder_.empty()) std::ofstream(path(".sent")) << messages_.load() << ' ' << bytes_.load() << '\n';
  }

 private:
  [[nodiscard]] std::string path(const std::string& end) const { return folder_ + "/" + std::to_string(getpid()) + end; }
  std::string folder_ = variable("COHORT_COMPARE_NOTES");
  std::atomic<std::uint64_t> messages_{0}, bytes_{0};
  std::atomic<int> steps_{0};
} notes;

int run(Communicator&, JobArguments& arguments) {
  std::vector<int> nodes;
  std::istringstream labels(variable("COHORT_COMPARE_NODES"));
  for (std::string label; std::getline(labels, label, ',');) nodes.push_back(std::stoi(label));
  run_as_threads(static_cast<int>(nodes.size()), [&](Communicator& communicator) {
    Configuration mine = load_configuration(arguments.argument, {});
    (void)train(communicator, mine.root, arguments.resume);
  }, {.nodes = nodes, .timeout = 300});
  return kExitDone;
}

const Registered<JobType> job{"thread_ranks",
                              {.summary = "trains as `train` does, by ranks that are threads",
                               .argument = JobArgument::job_file,
                               .argument_help = "a job file",
                               .resumes = true,
                               .run = run}};

}  // namespace

// These two stand before the library's.

Step& Session::prepare(std::span<const Value> fetches, const FeedShapes& feeds, StepHooks hooks) {
  using Prepare = Step& (*)(Session*, std::span<const Value>, const FeedShapes&, StepHooks);
  static const auto prepare_in_library = behind<Prepare>(
      "_ZN6cohort7Session7prepareESt4spanIKNS_5ValueELm18446744073709551615EERKSt6vectorISt4pairIS2_NS_5ShapeEESaIS8_EENS_9StepHooksE");
  Step& step = prepare_in_library(this, fetches, feeds, std::move(hooks));
  notes.prepared(step.text());
  return step;
}

void Transfer::send(int peer, int tag, const void* data, std::size_t bytes) {
  using Send = void (*)(Transfer*, int, int, const void*, std::size_t);
  static const auto send_in_library = behind<Send>("_ZN6cohort8Transfer4sendEiiPKvm");
  notes.sent(bytes);
  send_in_library(this, peer, tag, data, bytes);
}

}  // namespace cohort
