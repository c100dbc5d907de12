#include "cohort/faults/fault_injection.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <mutex>
#include <numeric>
#include <string>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/comm/collective.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "support/patience.hpp"
#include "support/sections.hpp"

namespace cohort {
namespace {

using ::testing::HasSubstr;
using Kind = Fault::Kind;

std::shared_ptr<const FaultPlan> plan_of(std::vector<Fault> faults, int ranks = 4) {
  return std::make_shared<const FaultPlan>(std::move(faults), ranks);
}

/// Stands still until somebody moves it; a sleep moves it and is written down.
class ManualClock final : public Clock {
 public:
  double now() const override { return now_.load(); }
  void sleep(double seconds) override {
    const std::lock_guard lock(mutex_);
    slept_ += seconds;
    move(seconds);
  }
  void move(double seconds) { now_.store(now_.load() + seconds); }
  [[nodiscard]] double slept() const {
    const std::lock_guard lock(mutex_);
    return slept_;
  }

 private:
  mutable std::mutex mutex_;
  std::atomic<double> now_{0};
  double slept_ = 0;
};

/// Fails the test if it takes 20 s.
void until(const std::function<bool()>& done) {
  const double end = Clock::steady().now() + 20;
  while (!done()) {
    ASSERT_LT(Clock::steady().now(), end) << "a wait did not end";
    Clock::steady().sleep(1e-4);
  }
}

void send(Communicator& c, int peer, int tag, int value) {
  Transfer out(c.transport());
  out.send(peer, tag, &value, sizeof value);
  until([&] { return out.done(); });
}

int receive(Communicator& c, int peer, int tag) {
  int value = -1;
  Transfer in(c.transport());
  in.receive(peer, tag, &value, sizeof value);
  until([&] { return in.done(); });
  return value;
}

/// True if nothing comes while the peer says, over a line without faults, that it has looked several times.
bool nothing_there(Transfer& transfer) {
  for (int i = 0; i < 50; ++i) {
    if (transfer.done()) return false;
  }
  return true;
}

std::string error_of(const std::function<void()>& body, Code code) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

// ---- what is decided: without a clock, without ranks

TEST(FaultPlan, ReadsAJobFileAndNamesWhatMakesNoSense) {
  const auto bind = [](const testing::Options& options, int ranks = 4) {
    Section root;
    Section& entry = root.add_child_entry("fault");
    for (const auto& [key, value] : options) entry.set(key, {value, "job.toml:3"});
    const auto plan = FaultPlan::from(root, ranks);
    root.finish();
    return plan->text();
  };
  const auto refused = [&](const testing::Options& options) { return error_of([&] { (void)bind(options); }, Code::invalid_argument); };
  using std::string;
  EXPECT_EQ(bind({{"kind", string("slow")}, {"seconds", 0.5}, {"ranks", testing::numbers({3})}, {"from_step", std::int64_t{10}}}),
            "slow by 0.5 s on rank 3 from step 10");
  EXPECT_EQ(bind({{"kind", string("drop")}, {"peers", testing::numbers({0, 1})}, {"probability", 0.25}, {"until_step", std::int64_t{5}}}),
            "drop on all ranks to ranks 0 1 from step 0 to 4 with probability 0.25");
  EXPECT_THAT(refused({{"kind", string("dely")}}), HasSubstr("did you mean 'delay'?"));
  EXPECT_THAT(refused({}), HasSubstr("[[fault]] number 1: kind is missing"));
  Section off;
  Section& entry = off.add_child_entry("fault");
  entry.set("kind", {string("none"), "--set fault"});
  entry.set("ranks", {testing::numbers({9}), "--set fault"});
  EXPECT_EQ(FaultPlan::from(off, 4), nullptr) << "an entry that is switched off is none, whatever else it says";
  EXPECT_THAT(refused({{"kind", string("kill")}, {"ranks", testing::numbers({4})}}), HasSubstr("there is no rank 4, the job has ranks 0 to 3"));
  EXPECT_THAT(refused({{"kind", string("drop")}, {"peers", testing::numbers({7})}}), HasSubstr("peers: there is no rank 7"));
  EXPECT_THAT(refused({{"kind", string("drop")}, {"probability", 1.5}}), HasSubstr("0 <= value <= 1"));
  EXPECT_THAT(refused({{"kind", string("drop")}, {"probability", -0.5}}), HasSubstr("0 <= value <= 1"));
  EXPECT_THAT(refused({{"kind", string("kill")}, {"peers", testing::numbers({1})}}), HasSubstr("takes no peers"));
  EXPECT_THAT(refused({{"kind", string("delay")}}), HasSubstr("delay needs seconds above 0"));
  EXPECT_THAT(refused({{"kind", string("drop")}, {"seconds", 1.0}}), HasSubstr("drop takes no seconds"));
  EXPECT_THAT(refused({{"kind", string("kill")}, {"from_step", std::int64_t{5}}, {"until_step", std::int64_t{5}}}), HasSubstr("no step is from 5 and before 5"));
  EXPECT_THAT(refused({{"kind", string("kill")}, {"rank", std::int64_t{5}}}), HasSubstr("did you mean 'ranks'?"));
  Section none;
  EXPECT_EQ(FaultPlan::from(none, 4), nullptr);
}

std::vector<bool> drops(const FaultPlan& plan, FaultPlan::Message message, int n) {
  std::vector<bool> result;
  for (int i = 0; i < n; ++i) {
    message.number = i;
    result.push_back(plan.fate(message).copies == 0);
  }
  return result;
}

TEST(FaultPlan, SameSeedSameDecisionsOtherSeedOthers) {
  const Fault fault{.kind = Kind::drop, .probability = 0.5, .seed = 7};
  Fault other = fault;
  other.seed = 8;
  const FaultPlan::Message m{.rank = 1, .peer = 2, .step = 3};
  const std::vector<bool> first = drops(FaultPlan({fault}, 4), m, 64);
  EXPECT_EQ(first, drops(FaultPlan({fault}, 4), m, 64));
  EXPECT_NE(first, drops(FaultPlan({other}, 4), m, 64));
  const std::vector<FaultPlan::Message> elsewhere{{.rank = 2, .peer = 1, .step = 3}, {.rank = 1, .peer = 3, .step = 3}, {.rank = 1, .peer = 2, .step = 4},
                                                  {.rank = 1, .peer = 2, .step = 3, .group = 1}, {.rank = 1, .peer = 2, .step = 3, .tag = 1}};
  for (const FaultPlan::Message& each : elsewhere) EXPECT_NE(first, drops(FaultPlan({fault}, 4), each, 64));
}

TEST(FaultPlan, TwoEntriesWithOneSeedAreDecidedApart) {
  const FaultPlan plan({{.kind = Kind::delay, .probability = 0.5, .seconds = 1}, {.kind = Kind::duplicate, .probability = 0.5}}, 4);
  int differ = 0;
  for (int i = 0; i < 200; ++i) {
    const auto fate = plan.fate(FaultPlan::Message{.number = i});
    differ += (fate.delay > 0) != (fate.copies == 2);
  }
  EXPECT_GT(differ, 50);
  EXPECT_LT(differ, 150);
}

TEST(FaultPlan, FrequenciesAreTheProbability) {
  constexpr int kTrials = 20'000;
  for (const double p : {0.0, 0.01, 0.3, 0.9, 1.0}) {
    const FaultPlan plan({{.kind = Kind::duplicate, .probability = p, .seed = 5}, {.kind = Kind::slow, .probability = p, .seconds = 1, .seed = 5}}, 4);
    int messages = 0, steps = 0;
    for (int i = 0; i < kTrials; ++i) {
      messages += plan.fate(FaultPlan::Message{.rank = i % 4, .peer = (i + 1) % 4, .step = i / 7, .tag = i % 3, .number = i}).copies == 2;
      steps += plan.fate(i % 4, i / 4).slow > 0;
    }
    const double bound = 5 * std::sqrt(kTrials * p * (1 - p));     // 5 standard deviations
    EXPECT_NEAR(messages, kTrials * p, bound) << p;
    EXPECT_NEAR(steps, kTrials * p, bound) << p;
  }
}

TEST(FaultPlan, RanksPeersAndStepsAreRespected) {
  const FaultPlan plan({{.kind = Kind::drop, .ranks = {1}, .peers = {0, 2}, .from_step = 5, .until_step = 8}}, 4);
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(plan.meets_messages_of(rank), rank == 1);
    for (int peer = 0; peer < 4; ++peer) {
      for (std::int64_t step = -1; step < 10; ++step) {
        const bool dropped = plan.fate(FaultPlan::Message{.rank = rank, .peer = peer, .step = step}).copies == 0;
        EXPECT_EQ(dropped, rank == 1 && (peer == 0 || peer == 2) && step >= 5 && step < 8) << rank << peer << step;
      }
    }
  }
  const FaultPlan of_steps({{.kind = Kind::slow, .ranks = {2}, .from_step = 1, .seconds = 2}, {.kind = Kind::slow, .seconds = 1},
                            {.kind = Kind::kill, .ranks = {3}, .from_step = 4}}, 4);
  EXPECT_EQ(of_steps.fate(2, 0).slow, 1);
  EXPECT_EQ(of_steps.fate(2, 1).slow, 3);
  EXPECT_FALSE(of_steps.fate(3, 3).killed);
  EXPECT_TRUE(of_steps.fate(3, 4).killed);
  EXPECT_FALSE(of_steps.meets_messages());
}

// ---- messages

TEST(FaultInjection, ADelayedMessageKeepsItsPlaceAmongThoseOfItsTag) {
  ManualClock clock;
  std::atomic<bool> moved = false;
  run_as_threads(2, [&](Communicator& c) {
    Communicator plain = c.duplicate();                            // made before: no faults
    inject(c, plan_of({{.kind = Kind::delay, .ranks = {0}, .until_step = 1, .seconds = 10}}, 2));
    if (c.rank() == 0) {
      int values[] = {1, 2, 3};
      Transfer first(c.transport()), second(c.transport()), other(c.transport());
      c.begin_step(0);
      first.send(1, 5, &values[0], sizeof(int));
      c.begin_step(1);                                             // from here on nothing is delayed
      second.send(1, 5, &values[1], sizeof(int));
      other.send(1, 6, &values[2], sizeof(int));
      until([&] { return other.done(); });
      EXPECT_TRUE(nothing_there(first));
      EXPECT_TRUE(nothing_there(second));
      clock.move(9.9);
      EXPECT_TRUE(nothing_there(second));
      send(plain, 1, 1, 0);
      (void)receive(plain, 1, 1);
      moved = true;
      clock.move(0.2);
      until([&] { return first.done() && second.done(); });
    } else {
      EXPECT_EQ(receive(c, 0, 6), 3);                              // another tag overtakes
      int got = 0;
      Transfer in(c.transport());
      in.receive(0, 5, &got, sizeof got);
      (void)receive(plain, 0, 1);
      EXPECT_TRUE(nothing_there(in)) << "came before its time";
      send(plain, 0, 1, 0);
      until([&] { return in.done(); });
      EXPECT_TRUE(moved);
      EXPECT_EQ(got, 1);
      EXPECT_EQ(receive(c, 0, 5), 2);
    }
  }, {.clock = &clock});
}

TEST(FaultInjection, RandomDelaysKeepTheOrderOfEveryTag) {
  constexpr int kMessages = 60;
  for (int ranks = 2; ranks <= 4; ++ranks) {
    run_as_threads(ranks, [&](Communicator& c) {
      inject(c, plan_of({{.kind = Kind::delay, .from_step = -1, .probability = 0.4, .seconds = 0.002, .seed = 11}}, ranks));
      const int to = (c.rank() + 1) % c.size(), from = (c.rank() + c.size() - 1) % c.size();
      std::vector<int> sent(kMessages), got(kMessages, -1);
      std::vector<Transfer> transfers;
      for (int i = 0; i < kMessages; ++i) {
        sent[static_cast<std::size_t>(i)] = c.rank() * 1000 + i;
        transfers.emplace_back(c.transport()).receive(from, i % 3, &got[static_cast<std::size_t>(i)], sizeof(int));
        transfers.emplace_back(c.transport()).send(to, i % 3, &sent[static_cast<std::size_t>(i)], sizeof(int));
      }
      until([&] {
        bool all = true;
        for (Transfer& each : transfers) all = each.done() && all;
        return all;
      });
      for (int i = 0; i < kMessages; ++i) EXPECT_EQ(got[static_cast<std::size_t>(i)], from * 1000 + i);
    });
  }
}

TEST(FaultInjection, ADroppedMessageEndsTheBoundedWaitWhichNamesTheRank) {
  for (int ranks = 2; ranks <= 4; ++ranks) {
    std::atomic<int> named = 0;
    try {
      run_as_threads(ranks, [&](Communicator& c) {
        inject(c, plan_of({{.kind = Kind::drop, .ranks = {1}, .peers = {0}, .from_step = 3}}, ranks));
        c.begin_step(2);
        int word = c.rank() == 0 ? 42 : 0;
        if (c.rank() == 1) send(c, 0, 9, 17);                      // not yet
        if (c.rank() == 0) { EXPECT_EQ(receive(c, 1, 9), 17); }
        c.begin_step(3);
        if (c.rank() == 1) send(c, 0, 9, 18);                      // it does not notice
        if (c.rank() != 0) return;
        Transfer in(c.transport());
        in.receive(1, 9, &word, sizeof word);
        try {
          c.wait(WaitStatus{.operation = "receive", .peer = 1, .step = 3}, [&] { return in.done(); });
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), Code::deadline_exceeded);
          EXPECT_THAT(error.what(), HasSubstr("for rank 1 in receive at step 3"));
          ++named;
          throw;
        }
      }, {.timeout = testing::patient(0.5)});
      ADD_FAILURE() << "the message came";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::deadline_exceeded);
    }
    EXPECT_EQ(named, 1);
  }
}

TEST(FaultInjection, ADuplicateArrivesTwiceWithWhatWasSent) {
  run_as_threads(2, [](Communicator& c) {
    inject(c, plan_of({{.kind = Kind::duplicate, .ranks = {0}}}, 2));
    c.begin_step(0);
    for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{1009}}) {   // long ones wait for the receiver
      std::vector<int> data(n, 7);
      for (int copy = 0; copy < 2; ++copy) {
        Transfer transfer(c.transport());
        if (c.rank() == 1) transfer.receive(0, 4, data.data(), n * sizeof(int));
        else if (copy == 0) transfer.send(1, 4, data.data(), n * sizeof(int));
        until([&] { return transfer.done(); });
        if (c.rank() == 1) { EXPECT_EQ(data, std::vector<int>(n, 7)) << n; }
        data.assign(n, -1);                                        // the sender's memory is its own again
      }
    }
    if (c.rank() == 1) send(c, 0, 5, 1);                           // not duplicated: another rank's
    else EXPECT_EQ(receive(c, 1, 5), 1);
  });
}

TEST(FaultInjection, ADuplicateThatNobodyReceivesDoesNotHoldUpTheSender) {
  run_as_threads(2, [](Communicator& c) {
    inject(c, plan_of({{.kind = Kind::duplicate, .from_step = -1}}, 2));
    std::vector<int> data(1000, c.rank());
    Transfer out(c.transport()), in(c.transport());
    std::vector<int> got(1000);
    out.send(1 - c.rank(), 4, data.data(), data.size() * sizeof(int));
    in.receive(1 - c.rank(), 4, got.data(), got.size() * sizeof(int));
    until([&] {
      const bool sent = out.done(), received = in.done();
      return sent && received;
    });
  });
}

TEST(FaultInjection, ADelayedMessageThatIsGivenUpNeverLeaves) {
  ManualClock clock;
  run_as_threads(2, [&](Communicator& c) {
    inject(c, plan_of({{.kind = Kind::delay, .ranks = {0}, .seconds = 1}}, 2));
    c.begin_step(0);
    if (c.rank() == 1) {
      EXPECT_EQ(receive(c, 0, 3), 2) << "the one that was given up";
      return;
    }
    auto gone = std::make_unique<int>(1);
    int value = 2;
    Transfer abandoned(c.transport()), kept(c.transport());
    abandoned.send(1, 3, gone.get(), sizeof(int));
    kept.send(1, 3, &value, sizeof(int));
    abandoned.abandon();
    gone.reset();                                                  // nobody may read it now
    EXPECT_TRUE(abandoned.done());
    EXPECT_TRUE(nothing_there(kept));
    clock.move(2);
    until([&] { return kept.done(); });
    Transfer last(c.transport());
    last.send(1, 3, &value, sizeof(int));                          // the last of its kind is given up by its owner's end
  }, {.clock = &clock});
}

TEST(FaultInjection, GroupsTwinsAndDuplicatesInherit) {
  run_as_threads(4, [](Communicator& c) {
    inject(c, plan_of({{.kind = Kind::duplicate, .ranks = {2}, .peers = {0}}}));
    Communicator group = c.split(c.rank() % 2);                    // 0 and 2 are its ranks 0 and 1
    Communicator copy = group.duplicate(), twin = group.twin();
    const auto check_twice = [&](Communicator& line, int tag) {
      if (c.rank() == 2) send(line, 0, tag, 5);
      if (c.rank() != 0) return;
      EXPECT_EQ(receive(line, 1, tag), 5);
      EXPECT_EQ(receive(line, 1, tag), 5);
    };
    c.begin_step(0);
    check_twice(group, 1);
    check_twice(copy, 1);
    check_twice(twin, 2);
    if (c.rank() == 0) {
      Transfer out(group.transport());
      int value = 0;
      out.send(1, 1, &value, sizeof value);
      until([&] { return out.done(); });
    }
    if (c.rank() == 2) (void)receive(group, 0, 1);
  });
}

TEST(FaultInjection, CollectivesUnderRandomDelaysGiveTheSameBits) {
  for (const std::string algorithm : {"ring", "direct", "recursive_doubling", "recursive_halving"}) {
    for (int ranks = 2; ranks <= 4; ++ranks) {
      std::vector<std::vector<float>> sums(2);
      for (const bool faulty : {false, true}) {
        run_as_threads(ranks, [&](Communicator& c) {
          if (faulty) inject(c, plan_of({{.kind = Kind::delay, .probability = 0.3, .seconds = 0.001, .seed = 3}}, ranks));
          CollectiveOptions options;
          options.algorithm = algorithm;
          const auto collective = make_collective(c, options);
          std::vector<float> data(1009);
          Work& work = collective->all_reduce({.data = data.data(), .n = data.size()});
          for (std::int64_t step = 0; step < 4; ++step) {
            c.begin_step(step);
            for (std::size_t i = 0; i < data.size(); ++i) data[i] = std::sin(static_cast<float>(i * 7 + static_cast<std::size_t>(c.rank() * 31 + step)));
            work.start(step);
            work.wait();
            if (c.rank() == ranks - 1) sums[faulty].insert(sums[faulty].end(), data.begin(), data.end());
          }
        });
      }
      EXPECT_EQ(sums[0], sums[1]) << algorithm << " " << ranks;
    }
  }
}

// ---- steps

TEST(FaultInjection, ASlowOrPausedRankSleepsInTheStepsOfItsPlan) {
  for (const Kind kind : {Kind::slow, Kind::pause}) {
    ManualClock clocks[2];
    run_as_threads(2, [&](Communicator& c) {
      ManualClock& clock = clocks[c.rank()];
      Context context = c.context();
      context.clock = &clock;
      const int all[] = {0, 1};
      Communicator mine(c.transport().subgroup(all, 29'999), context, c.nodes(), c.cancel_flag());
      inject(mine, plan_of({{.kind = kind, .ranks = {1}, .from_step = 2, .until_step = 4, .seconds = 3}}, 2));
      for (std::int64_t step = 0; step < 6; ++step) {
        mine.begin_step(step);
        EXPECT_EQ(mine.rank_activity()->position().step, step);
        EXPECT_NEAR(clock.slept(), c.rank() == 0 || step < 2 ? 0 : step == 2 ? 3 : 6, 1e-9) << step;
      }
    });
  }
}

TEST(FaultInjection, TheEndOfTheJobEndsASlowStep) {
  run_as_threads(1, [](Communicator& c) {
    inject(c, plan_of({{.kind = Kind::slow, .seconds = 1e6}}, 1));
    c.cancel_flag()->set("enough");
    EXPECT_EQ(error_of([&] { c.begin_step(0); }, Code::cancelled), "enough");
  });
}

TEST(FaultInjection, AKilledThreadRankEndsWithANamedError) {
  const auto body = [](Communicator& c) {
    inject(c, plan_of({{.kind = Kind::kill, .ranks = {1}, .from_step = 3}}, 3));
    for (std::int64_t step = 0; step < 5; ++step) {
      c.begin_step(step);
      barrier(c);
      EXPECT_LT(step, 3);
    }
  };
  EXPECT_EQ(error_of([&] { run_as_threads(3, body); }, Code::cancelled), "rank 1 was killed by fault injection at step 3");
}

TEST(FaultInjection, WindowsAreWarnedOfOnce) {
  std::mutex mutex;
  std::vector<std::string> lines;
  run_as_threads(3, [&](Communicator& c) {
    Context context = c.context();
    context.log = Log("", LogLevel::info, [&](LogLevel, std::string_view line) {
      const std::lock_guard lock(mutex);
      lines.emplace_back(line);
    });
    const int all[] = {0, 1, 2};
    Communicator mine(c.transport().subgroup(all, 29'999), context, c.nodes(), c.cancel_flag());
    inject(mine, plan_of({{.kind = Kind::drop, .ranks = {1}}}, 3));
    (void)mine.allocate_shared(64);
    (void)mine.duplicate().allocate_shared(64);
  });
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], HasSubstr("shared windows move data without messages"));
}

}  // namespace
}  // namespace cohort
