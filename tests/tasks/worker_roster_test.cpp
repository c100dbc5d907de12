// The token task's list of workers, over ranks that are threads: lines to them, and how a new process takes a lost one's place.
#include "tasks/worker_roster.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "cohort/comm/control.hpp"
#include "cohort/comm/thread_ranks.hpp"

namespace cohort {
namespace {

TEST(WorkerRoster, WhoHoldsAPeerHoldsItUntilItsSuccessorIsAdmitted) {
  run_as_threads(3, [](Communicator& service) {
    Communicator line = service.duplicate();
    if (service.rank() == 0) {
      const std::vector<int> ranks{1, 2};
      WorkerRoster workers(service, ranks, 0);
      TokenPeer& held = workers[1];
      held.version = 5;
      workers.announce(1, line);             // as from within a loop over the peers
      EXPECT_EQ(&held, &workers[1]);
      EXPECT_EQ(held.version, 5);
      EXPECT_EQ(held.life, 0);
      EXPECT_EQ(workers.admit(), 1);
      EXPECT_EQ(workers[1].life, 1);
      EXPECT_EQ(workers[1].version, -1);     // it begins anew,
      EXPECT_EQ(workers[1].rank, 2);         // in the place of the lost one
      EXPECT_EQ(workers[0].life, 0);
      EXPECT_FALSE(workers.admit().has_value());
    }
    barrier(service);
  });
}

TEST(WorkerChannel, AnswersThatComeTwiceAreNoNews) {
  run_as_threads(2, [](Communicator& service) {
    if (service.rank() == 0) {
      WorkerChannel channel(service, 1, 0);
      std::vector<bool> news;
      service.wait(WaitStatus{.operation = "answers", .peer = 1}, [&] {
        if (const std::optional<Done> done = channel.receive()) news.push_back(channel.is_news(*done));
        return news.size() == 4;
      });
      EXPECT_EQ(news, (std::vector<bool>{true, true, false, true}));
    } else {
      for (const std::int64_t number : {0, 1, 1, 2}) {
        const Done done{.number = number};
        Transfer out(service.transport());
        out.send(0, task_tag::kDone, &done, sizeof done);
        service.wait(WaitStatus{.operation = "answers", .peer = 0}, [&] { return out.done(); });
      }
    }
    barrier(service);
  });
}

}  // namespace
}  // namespace cohort
