#include "cohort/comm/control.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

constexpr int kControlTag = 30000;   // collectives of control data: one after the other, so one tag is enough

template <class T>
T combine(T a, T b, Reduce how) {
  switch (how) {
    case Reduce::sum: return a + b;
    case Reduce::min: return b < a || b != b ? b : a;   // b != b: a NaN wins, wherever it comes from
    case Reduce::max: return b > a || b != b ? b : a;
  }
  fail(Code::internal, "a Reduce outside its enumeration");
}

void exchange(Communicator& communicator, const char* what, int to, std::span<const std::byte> send, int from,
              std::span<std::byte> receive) {
  Transfer in(communicator.transport()), out(communicator.transport());
  in.receive(from, kControlTag, receive.data(), receive.size());
  out.send(to, kControlTag, send.data(), send.size());
  communicator.wait(WaitStatus{.operation = what, .peer = from}, [&] { return in.done(); });
  communicator.wait(WaitStatus{.operation = what, .peer = to}, [&] { return out.done(); });
}

// Bruck et al., "Efficient algorithms for all-to-all communications in multiport message-passing systems", 1997: blocks lie
// rotated so that one's own is first; round k doubles how many one has. `start(i)`: of block (rank + i) mod p while they do.
template <class Start>
void gather_blocks(Communicator& communicator, std::span<const std::byte> mine, Start start, std::span<std::byte> all) {
  const std::size_t p = static_cast<std::size_t>(communicator.size()), me = static_cast<std::size_t>(communicator.rank());
  if (!mine.empty()) std::memcpy(all.data(), mine.data(), mine.size());
  for (std::size_t have = 1; have < p; have *= 2) {
    const std::size_t count = std::min(have, p - have);                       // blocks that travel in this round
    const std::size_t to = (me + p - have) % p, from = (me + have) % p;
    exchange(communicator, "all_gather", static_cast<int>(to), all.subspan(0, start(count)), static_cast<int>(from),
             all.subspan(start(have), start(have + count) - start(have)));
  }
  const std::size_t head = me == 0 ? 0 : start(p - me);                       // where rank 0's block lies
  std::rotate(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(head), all.end());
}

template <class T>
void reduce_gathered(Communicator& communicator, std::span<T> values, Reduce how) {
  std::vector<std::byte>& gathered = communicator.scratch();
  gathered.resize(values.size_bytes() * static_cast<std::size_t>(communicator.size()));
  all_gather_equal(communicator, std::as_bytes(values), gathered);
  for (std::size_t i = 0; i < gathered.size() / sizeof(T); ++i) {
    T theirs;
    std::memcpy(&theirs, gathered.data() + i * sizeof(T), sizeof(T));
    T& value = values[i % values.size()];
    value = i < values.size() ? theirs : combine(value, theirs, how);
  }
}

}  // namespace

// Dissemination (Hensgen, Finkel, Manber 1988): after round k everyone has heard, indirectly, of 2^(k+1) ranks.
void barrier(Communicator& communicator) {
  const int p = communicator.size();
  for (int distance = 1; distance < p; distance *= 2) {
    exchange(communicator, "barrier", (communicator.rank() + distance) % p, {}, (communicator.rank() - distance + p) % p, {});
  }
}

void broadcast(Communicator& communicator, std::span<std::byte> data, int root) {
  const int p = communicator.size();
  check(root >= 0 && root < p, Code::invalid_argument, "broadcast: the root must be a rank of the communicator");
  const int me = (communicator.rank() - root + p) % p;                                     // the root is 0 in the tree
  const int parent_bit = me == 0 ? static_cast<int>(std::bit_ceil(static_cast<unsigned>(p))) : me & -me;
  if (me != 0) {
    Transfer in(communicator.transport());
    in.receive((me - parent_bit + root) % p, kControlTag, data.data(), data.size());
    communicator.wait(WaitStatus{.operation = "broadcast", .peer = in.peer()}, [&] { return in.done(); });
  }
  for (int bit = parent_bit / 2; bit > 0; bit /= 2) {
    if (me + bit >= p) continue;
    Transfer out(communicator.transport());
    out.send((me + bit + root) % p, kControlTag, data.data(), data.size());
    communicator.wait(WaitStatus{.operation = "broadcast", .peer = out.peer()}, [&] { return out.done(); });
  }
}

void broadcast(Communicator& communicator, std::string& text, int root) {
  std::uint64_t size = text.size();
  broadcast(communicator, std::as_writable_bytes(std::span(&size, 1)), root);
  text.resize(size);
  broadcast(communicator, std::as_writable_bytes(std::span(text)), root);
}

void all_gather_equal(Communicator& communicator, std::span<const std::byte> mine, std::span<std::byte> all) {
  check(all.size() == mine.size() * static_cast<std::size_t>(communicator.size()), Code::internal,
        "all_gather_equal: the memory for all is not size() times as long as one rank's part");
  gather_blocks(communicator, mine, [bytes = mine.size()](std::size_t i) { return i * bytes; }, all);
}

std::vector<std::byte> all_gather_equal(Communicator& communicator, std::span<const std::byte> mine) {
  std::vector<std::byte> all(mine.size() * static_cast<std::size_t>(communicator.size()));
  all_gather_equal(communicator, mine, all);
  return all;
}

std::vector<std::string> all_gather(Communicator& communicator, std::string_view mine) {
  const std::vector<std::size_t> sizes = all_gather_value(communicator, mine.size());
  const std::size_t p = sizes.size();
  std::vector<std::size_t> starts(p + 1, 0);
  for (std::size_t i = 0; i < p; ++i) starts[i + 1] = starts[i] + sizes[(static_cast<std::size_t>(communicator.rank()) + i) % p];
  std::vector<std::byte> all(starts[p]);
  gather_blocks(communicator, std::as_bytes(std::span(mine)), [&](std::size_t i) { return starts[i]; }, all);
  std::vector<std::string> texts;
  std::size_t begin = 0;
  for (const std::size_t size : sizes) {
    texts.emplace_back(reinterpret_cast<const char*>(all.data()) + begin, size);
    begin += size;
  }
  return texts;
}

void all_reduce(Communicator& communicator, std::span<double> values, Reduce how) { reduce_gathered(communicator, values, how); }
void all_reduce(Communicator& communicator, std::span<std::int64_t> values, Reduce how) { reduce_gathered(communicator, values, how); }

double all_reduce(Communicator& communicator, double value, Reduce how) {
  all_reduce(communicator, std::span(&value, 1), how);
  return value;
}

std::int64_t all_reduce(Communicator& communicator, std::int64_t value, Reduce how) {
  all_reduce(communicator, std::span(&value, 1), how);
  return value;
}

}  // namespace cohort
