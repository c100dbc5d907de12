// An MPI library that lets the main thread of a rank alone talk to other ranks: what needs a second one is refused, or does
// without it.
#include <gtest/gtest.h>

#include <numeric>

#include "cohort/base/cores.hpp"
#include "comm/counting_transport.hpp"
#include "support/training.hpp"

namespace cohort {
namespace {

using testing::expect_same_bits;
using testing::numbers;
using testing::Options;
using testing::with;

/// What MpiTransport says at such a level. Only the communicator that a run is given is asked.
class OneThreadTransport final : public testing::CountingTransport {
 public:
  using CountingTransport::CountingTransport;
  std::string why_one_thread() const override { return "MPI grants its threads the level \"funneled\", not \"multiple\""; }
};

/// Rank 0's result, of ranks on machines of their own, so that a core is free beside the one of a rank's kernels.
TrainResult train_with_one_thread(int ranks, const Options& options) {
  std::vector<int> machines(static_cast<std::size_t>(ranks));
  std::iota(machines.begin(), machines.end(), 0);
  TrainResult result;
  run_as_threads(ranks, [&](Communicator& c) {
    const auto bytes = std::make_shared<std::atomic<std::int64_t>>(0);
    Communicator world(std::make_unique<OneThreadTransport>(c.transport().twin(), bytes), c.context(), c.nodes(), c.cancel_flag());
    world.set_timeout(c.timeout());
    Section config = testing::section_of(options);
    const TrainResult mine = train(world, config, {});
    if (c.rank() == 0) result = mine;
  }, {.nodes = machines, .timeout = testing::kHung});
  return result;
}

class OneThread : public ::testing::Test {
 protected:
  [[nodiscard]] Options mlp(const Options& changes = {}) const {
    return with({{"train.directory", (folder_.path() / "run").string()}, {"train.max_steps", std::int64_t{3}},
                 {"model.type", std::string("mlp")}, {"model.hidden", numbers({16})},
                 {"data.train.reader", std::string("synthetic")}, {"data.train.samples", std::int64_t{48}},
                 {"data.train.shape", numbers({5, 4, 1})}, {"data.batch", std::int64_t{8}},
                 {"data.threads", std::int64_t{0}}, {"schedule.learning_rate", 0.01}, {"train.threads", std::int64_t{1}}},
                changes);
  }
  void refused(int ranks, const Options& changes, const std::string& what, const std::string& way_out) const {
    try {
      (void)train_with_one_thread(ranks, mlp(changes));
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::failed_precondition);
      for (const std::string& part : {what, std::string("MPI grants its threads the level \"funneled\""), way_out}) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      }
    }
  }
  testing::TemporaryFolder folder_;
};

TEST_F(OneThread, AnExchangeThreadThatIsAskedForIsRefused) {
  refused(2, {{"exchange.thread", std::string("on")}}, "exchange.thread = \"on\"", "\"auto\" goes without");
  EXPECT_EQ(train_with_one_thread(1, mlp({{"exchange.thread", std::string("on")}})).steps, 3) << "one rank talks to nobody";
}

TEST_F(OneThread, AnExchangeThreadThatWouldBeTakenIsDoneWithoutAndTheRunSaysWhy) {
  const TrainResult off = train_with_one_thread(2, mlp({{"exchange.thread", std::string("off")}}));
  ::testing::internal::CaptureStdout();
  const TrainResult automatic = train_with_one_thread(2, mlp({{"exchange.thread", std::string("auto")}}));
  const std::string text = ::testing::internal::GetCapturedStdout();
  expect_same_bits(off.checkpoint, automatic.checkpoint);
  EXPECT_EQ(text.find("from a thread of its own"), std::string::npos) << text;
  if (available_cores().size() < 2) GTEST_SKIP() << "no core is free here";
  EXPECT_NE(text.find("without the thread that a free core is there for: MPI grants its threads the level \"funneled\""),
            std::string::npos) << text;
}

TEST_F(OneThread, AParameterTaskBesideAWorkerIsRefusedAndDedicatedOnesAreNot) {
  for (const char* updater : {"async", "sync_with_backups"}) {
    const Options base{{"train.updater", std::string(updater)}};
    for (const int ranks : {1, 2, 3}) refused(ranks, base, "a parameter task", "cluster.ps=1");
    EXPECT_EQ(train_with_one_thread(3, mlp(with(base, {{"cluster.ps", std::int64_t{1}}}))).steps, 3);
  }
}

}  // namespace
}  // namespace cohort
