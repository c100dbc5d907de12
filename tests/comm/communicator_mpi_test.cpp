#include <gtest/gtest.h>

#include "comm/communicator_checks.hpp"
#include "support/mpi_world.hpp"

namespace cohort {
namespace {

using testing::world;

TEST(Mpi, Messages) { testing::check_messages(world()); }
TEST(Mpi, ControlCollectives) { testing::check_control_collectives(world()); }
TEST(Mpi, Groups) { testing::check_groups(world()); }
TEST(Mpi, SharedMemory) { testing::check_shared_memory(world()); }
TEST(Mpi, Deadline) { testing::check_deadline(world()); }

// The same with messages cut at 1000 bytes, as those above 2^30 bytes are.
TEST(Mpi, CutMessages) {
  Communicator cut = testing::environment().world(Context{}, 1000);
  testing::check_messages(cut);
  testing::check_control_collectives(cut);
}

TEST(Mpi, RanksOfOneMachineShareANode) { EXPECT_EQ(world().nodes().nodes(), 1); }

TEST(Mpi, Environment) {
  EXPECT_EQ(Environment::thread_level(), "multiple");
  EXPECT_EQ(world().transport().why_one_thread(), "");
  EXPECT_FALSE(Environment::library_version().empty());
  EXPECT_EQ(Environment::processor_name(), world().context().host);
}

}  // namespace
}  // namespace cohort
