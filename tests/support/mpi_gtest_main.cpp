// main() of GoogleTest programs under mpirun: rank 0 prints; the failures of all ranks are gathered after every test, so
// that all ranks end with the same verdict; a watchdog names the test that hangs and ends the job before CTest would.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "cohort/comm/control.hpp"
#include "support/mpi_world.hpp"

namespace cohort::testing {
namespace {

std::optional<Environment> the_environment;
std::optional<Communicator> the_world;

/// The test that runs now, for the watchdog's thread.
class CurrentTest {
 public:
  void set(const std::string& name) {
    const std::lock_guard lock(mutex_);
    name_ = name;
  }
  [[nodiscard]] std::string get() const {
    const std::lock_guard lock(mutex_);
    return name_;
  }

 private:
  mutable std::mutex mutex_;
  std::string name_;
};
CurrentTest current_test;

class MpiListener final : public ::testing::EmptyTestEventListener {
 public:
  MpiListener(std::unique_ptr<::testing::TestEventListener> inner, Communicator communicator)
      : inner_(std::move(inner)), communicator_(std::move(communicator)) {
    communicator_.set_timeout(1e6);   // the watchdog is the one that ends a hang
  }
  void OnTestProgramStart(const ::testing::UnitTest& unit) override {
    if (printer()) inner_->OnTestProgramStart(unit);
  }
  void OnEnvironmentsSetUpStart(const ::testing::UnitTest& unit) override {
    if (printer()) inner_->OnEnvironmentsSetUpStart(unit);
  }
  void OnTestSuiteStart(const ::testing::TestSuite& suite) override {
    if (printer()) inner_->OnTestSuiteStart(suite);
  }
  void OnTestStart(const ::testing::TestInfo& test) override {
    failures_.clear();
    current_test.set(std::string(test.test_suite_name()) + "." + test.name());
    if (printer()) inner_->OnTestStart(test);
  }
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (result.passed()) return;
    const char* file = result.file_name() != nullptr ? result.file_name() : "?";
    failures_ += std::string(result.skipped() ? "skipped " : "FAILURE ") + file + ":" +
                 std::to_string(result.line_number()) + ": " + result.message() + "\n";
  }
  void OnTestEnd(const ::testing::TestInfo& test) override {
    const bool bad = test.result()->Failed();
    const std::vector<std::string> failures = all_gather(communicator_, failures_);
    const std::int64_t failed = all_reduce(communicator_, std::int64_t{bad}, Reduce::sum);
    if (printer()) {
      for (std::size_t rank = 0; rank < failures.size(); ++rank) {
        if (!failures[rank].empty()) std::printf("[rank %zu] %s", rank, failures[rank].c_str());
      }
      std::fflush(stdout);
    }
    if (failed > 0 && !bad) ADD_FAILURE() << failed << " of " << communicator_.size() << " ranks failed";
    if (printer()) inner_->OnTestEnd(test);
    current_test.set("no test");
  }
  void OnTestSuiteEnd(const ::testing::TestSuite& suite) override {
    if (printer()) inner_->OnTestSuiteEnd(suite);
  }
  void OnTestIterationEnd(const ::testing::UnitTest& unit, int iteration) override {
    if (printer()) inner_->OnTestIterationEnd(unit, iteration);
  }
  void OnTestProgramEnd(const ::testing::UnitTest& unit) override {
    if (printer()) inner_->OnTestProgramEnd(unit);
  }

 private:
  [[nodiscard]] bool printer() const { return communicator_.rank() == 0; }

  std::unique_ptr<::testing::TestEventListener> inner_;
  Communicator communicator_;
  std::string failures_;
};

void start_watchdog(int rank) {
  const char* limit = std::getenv("COHORT_TEST_TIMEOUT");
  if (limit == nullptr) return;
  std::thread([rank, seconds = std::atof(limit)] {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    std::fprintf(stderr, "[rank %d] WATCHDOG: still in %s after %.0f s\n", rank, current_test.get().c_str(), seconds);
    std::fflush(stderr);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));   // let all ranks say so
    abort_job(86);
  }).detach();
}

int run_all() {
  the_environment.emplace();
  the_world.emplace(the_environment->world(Context{}));
  start_watchdog(the_world->rank());
  auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
  std::unique_ptr<::testing::TestEventListener> printer(listeners.Release(listeners.default_result_printer()));
  if (the_world->rank() != 0) delete listeners.Release(listeners.default_xml_generator());
  auto listener = std::make_unique<MpiListener>(std::move(printer), the_world->duplicate());
  MpiListener* mine = listener.get();
  listeners.Append(listener.release());
  int verdict = RUN_ALL_TESTS();
  verdict = static_cast<int>(all_reduce(*the_world, std::int64_t{verdict}, Reduce::max));
  delete listeners.Release(mine);   // its communicator goes before MPI ends
  the_world.reset();
  the_environment.reset();
  return verdict;
}

}  // namespace

Communicator& world() { return *the_world; }
const Environment& environment() { return *the_environment; }

}  // namespace cohort::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  try {
    return cohort::testing::run_all();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "outside any test: %s\n", error.what());
    cohort::abort_job(1);
  }
}
