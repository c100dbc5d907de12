#include "comm/communicator_checks.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/comm/control.hpp"
#include "support/patience.hpp"

namespace cohort::testing {
namespace {

using ::testing::HasSubstr;

std::vector<unsigned char> pattern(std::size_t bytes, int seed) {
  std::vector<unsigned char> data(bytes);
  const auto offset = static_cast<std::size_t>(seed) * 7;
  for (std::size_t i = 0; i < bytes; ++i) data[i] = static_cast<unsigned char>(i * 31 + offset + i / 256);
  return data;
}

void finish(Communicator& c, Transfer& transfer) {
  c.wait(WaitStatus{.operation = "test", .peer = transfer.peer()}, [&] { return transfer.done(); });
}

}  // namespace

void check_messages(Communicator& c) {
  const int p = c.size(), me = c.rank(), right = (me + 1) % p, left = (me + p - 1) % p;
  for (const std::size_t bytes : {0u, 1u, 127u, 129u, 999u, 1000u, 1001u, 2000u, 5003u, 300'000u}) {
    const auto mine = pattern(bytes, me);
    std::vector<unsigned char> got(bytes + 1, 0xEE);
    Transfer in(c.transport()), out(c.transport());
    in.receive(left, 7, got.data(), bytes);
    out.send(right, 7, mine.data(), bytes);
    finish(c, in);
    finish(c, out);
    EXPECT_EQ(got.back(), 0xEE) << "wrote past the end of " << bytes << " bytes";
    got.pop_back();
    EXPECT_EQ(got, pattern(bytes, left)) << bytes << " bytes from rank " << left;
  }
  // Ten messages of one tag and one of another, all receives posted before, tested in the wrong order.
  std::vector<int> numbers(10), got(10, -1);
  std::iota(numbers.begin(), numbers.end(), me * 100);
  int other = -1;
  const int other_sent = me + 5;
  Transfer other_in(c.transport()), other_out(c.transport());
  std::vector<Transfer> in, out;
  for (int& number : got) in.emplace_back(c.transport()).receive(left, 3, &number, sizeof number);
  other_in.receive(left, 4, &other, sizeof other);
  other_out.send(right, 4, &other_sent, sizeof other_sent);
  for (int& number : numbers) out.emplace_back(c.transport()).send(right, 3, &number, sizeof number);
  finish(c, other_in);
  for (std::size_t i = in.size(); i-- > 0;) finish(c, in[i]);
  for (Transfer& transfer : out) finish(c, transfer);
  finish(c, other_out);
  EXPECT_EQ(other, left + 5);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(got[static_cast<std::size_t>(i)], left * 100 + i);
  // A message of another size than expected is an error that names the sender, not a short read.
  for (const std::size_t expected : {3u, 8u}) {
    if (left == me) break;                            // Open MPI does not tell when a rank does this to itself
    std::vector<char> room(expected);
    const char sent[5] = {};
    Transfer small_in(c.transport()), small_out(c.transport());
    small_in.receive(left, 5, room.data(), expected);
    small_out.send(right, 5, sent, sizeof sent);
    try {
      finish(c, small_in);
      ADD_FAILURE() << "5 bytes were accepted as " << expected;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::data_loss);
      EXPECT_THAT(error.what(), HasSubstr("rank " + std::to_string(left) + " sent"));
      EXPECT_THAT(error.what(), HasSubstr("expected " + std::to_string(expected)));
    }
    finish(c, small_out);
  }
  barrier(c);
}

void check_control_collectives(Communicator& c) {
  const int p = c.size(), me = c.rank();
  for (int root = 0; root < p; ++root) {
    for (const std::size_t bytes : {0u, 1u, 1000u, 70'001u}) {
      auto data = pattern(bytes, me == root ? root : 99);
      broadcast(c, std::as_writable_bytes(std::span(data)), root);
      EXPECT_EQ(data, pattern(bytes, root)) << "root " << root;
    }
    std::string text = me == root ? std::string(static_cast<std::size_t>(root) * 11, 'x') + "end" : "something else, longer";
    broadcast(c, text, root);
    EXPECT_EQ(text, std::string(static_cast<std::size_t>(root) * 11, 'x') + "end");
  }
  const auto text_of = [](int rank) {
    return rank % 3 == 1 ? std::string() : std::string(static_cast<std::size_t>(rank) * 97, 'a') + std::to_string(rank);
  };
  const std::vector<std::string> texts = all_gather(c, text_of(me));
  ASSERT_EQ(texts.size(), static_cast<std::size_t>(p));
  for (int rank = 0; rank < p; ++rank) EXPECT_EQ(texts[static_cast<std::size_t>(rank)], text_of(rank));

  // Sums in rank order: 1e16 swallows ones one at a time, so any other order shows.
  std::vector<double> values{me == 0 ? 1e16 : 1.0, static_cast<double>(me)};
  double expected = 1e16;
  for (int rank = 1; rank < p; ++rank) expected += 1.0;
  all_reduce(c, values, Reduce::sum);
  EXPECT_EQ(values[0], expected);
  EXPECT_EQ(values[1], p * (p - 1) / 2.0);
  EXPECT_EQ(all_reduce(c, std::int64_t{me - 3}, Reduce::min), -3);
  EXPECT_EQ(all_reduce(c, std::int64_t{me} << 40, Reduce::max), std::int64_t{p - 1} << 40);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(std::isnan(all_reduce(c, me == p - 1 ? nan : 1.0, Reduce::min)));
  EXPECT_TRUE(std::isnan(all_reduce(c, me == 0 ? nan : 1.0, Reduce::max)));
  std::vector<double> none;
  all_reduce(c, none, Reduce::sum);
}

void check_groups(Communicator& c) {
  const int p = c.size(), me = c.rank();
  Communicator half = c.split(me % 2, -me);                       // reversed order inside
  EXPECT_EQ(half.size(), (p + 1 - me % 2) / 2);
  const std::vector<int> members = all_gather_value(half, me);
  for (std::size_t i = 0; i < members.size(); ++i) {
    EXPECT_EQ(members[i] % 2, me % 2);
    if (i > 0) { EXPECT_LT(members[i], members[i - 1]); }
  }
  EXPECT_EQ(members[static_cast<std::size_t>(half.rank())], me);
  EXPECT_EQ(half.context().rank, c.context().rank);

  // The same tag and peer in two groups: messages must not cross.
  Communicator twin = c.duplicate();
  const int right = (me + 1) % p, left = (me + p - 1) % p;
  const int for_first = me, for_twin = me + 1000;
  int from_first = -1, from_twin = -1;
  Transfer a(c.transport()), b(twin.transport()), a_in(c.transport()), b_in(twin.transport());
  b.send(right, 9, &for_twin, sizeof for_twin);
  a.send(right, 9, &for_first, sizeof for_first);
  a_in.receive(left, 9, &from_first, sizeof from_first);
  b_in.receive(left, 9, &from_twin, sizeof from_twin);
  for (Transfer* transfer : {&a_in, &b_in, &a, &b}) finish(c, *transfer);
  EXPECT_EQ(from_first, left);
  EXPECT_EQ(from_twin, left + 1000);

  std::vector<int> labels(static_cast<std::size_t>(p));
  for (int rank = 0; rank < p; ++rank) labels[static_cast<std::size_t>(rank)] = rank / 2;
  twin.force_nodes(NodeMap(labels));
  EXPECT_EQ(twin.nodes().nodes(), (p + 1) / 2);
  EXPECT_EQ(twin.nodes().node_of(me), me / 2);
  EXPECT_EQ(twin.nodes().local_rank(me), me % 2);
  if (p > 2) { EXPECT_THROW((void)twin.allocate_shared(64), Error); }
  Communicator node = twin.split(twin.nodes().node_of(me));
  EXPECT_EQ(node.nodes().nodes(), 1);
  EXPECT_EQ(node.size(), static_cast<int>(twin.nodes().ranks_of(me / 2).size()));
}

void check_shared_memory(Communicator& c) {
  const auto bytes_of = [](int rank) { return static_cast<std::size_t>(rank) * 5000 + 64; };
  const std::shared_ptr<SharedMemory> memory = c.allocate_shared(bytes_of(c.rank()));
  for (int rank = 0; rank < c.size(); ++rank) {
    const std::span<std::byte> part = memory->part(rank);
    EXPECT_EQ(part.size(), bytes_of(rank));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(part.data()) % 64, 0u);
    for (const std::byte b : part) ASSERT_EQ(b, std::byte{0});
  }
  barrier(c);
  const auto counter = [&](int rank) {
    return std::atomic_ref(*reinterpret_cast<std::uint64_t*>(memory->part(rank).data()));
  };
  for (int rank = 0; rank < c.size(); ++rank) counter(rank).fetch_add(1);
  c.wait(WaitStatus{.operation = "test"}, [&] { return counter(c.rank()).load() == static_cast<std::uint64_t>(c.size()); });
  barrier(c);
}

void check_deadline(Communicator& c) {
  if (c.size() == 1) return;
  Communicator twin = c.duplicate();
  twin.set_timeout(testing::patient(0.05));
  const int left = (c.rank() + c.size() - 1) % c.size();
  int never = 0;
  Transfer in(twin.transport());
  in.receive(left, 1, &never, sizeof never);
  try {
    twin.wait(WaitStatus{.operation = "test", .peer = left, .step = 17, .bucket = 2}, [&] { return in.done(); });
    ADD_FAILURE() << "a message that nobody sent came";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::deadline_exceeded);
    EXPECT_THAT(error.what(), HasSubstr("for rank " + std::to_string(left) + " in test of bucket 2 at step 17"));
  }
  EXPECT_EQ(twin.activity().read().operation, nullptr);
  in.abandon();
  barrier(c);
}

}  // namespace cohort::testing
