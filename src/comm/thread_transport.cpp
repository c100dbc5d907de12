#include "comm/thread_transport.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/tensor/device.hpp"
#include "comm/slots.hpp"

namespace cohort {
namespace {

/// A message on its way. It belongs to the receiver's mailbox, which uses it again and again.
struct Envelope {
  static constexpr std::size_t kBuffered = 128;
  int source = 0;
  int tag = 0;
  const std::byte* data = nullptr;
  std::size_t bytes = 0;
  bool detached = false;                  // the sender has finished with it: its content is in `buffer`
  std::atomic<bool> taken{false};
  std::array<std::byte, kBuffered> buffer{};
};

/// What has been sent to one rank and not been received yet, in the order of sending.
struct Mailbox {
  static constexpr std::size_t kAtOnce = 32;   // envelopes made together: how many are under way at a time is up to chance
  std::mutex mutex;
  std::vector<Envelope*> waiting;
  std::vector<Envelope*> unused;
  std::vector<std::unique_ptr<Envelope[]>> all;
  std::atomic<std::uint64_t> arrivals{0};   // counts messages, so that a receiver looks without the lock

  Mailbox() { waiting.reserve(kAtOnce); }
  Envelope* take_unused() {
    if (unused.empty()) {
      all.push_back(std::make_unique<Envelope[]>(kAtOnce));
      unused.reserve(all.size() * kAtOnce);    // giving back never allocates
      for (std::size_t i = 0; i < kAtOnce; ++i) unused.push_back(&all.back()[i]);
    }
    Envelope* envelope = unused.back();
    unused.pop_back();
    return envelope;
  }
  void give_back(Envelope* envelope) {
    const std::lock_guard lock(mutex);
    unused.push_back(envelope);
  }
};

class ThreadSharedMemory final : public SharedMemory {
 public:
  explicit ThreadSharedMemory(std::size_t ranks) : parts_(ranks) {}
  std::span<std::byte> part(int rank) const noexcept override {
    const Buffer& buffer = parts_[static_cast<std::size_t>(rank)];
    return {static_cast<std::byte*>(buffer.memory.get()), buffer.bytes};
  }
  void add(int rank, std::size_t bytes) {   // each rank its own part; Communicator::allocate_shared ends with a barrier
    Buffer& buffer = parts_[static_cast<std::size_t>(rank)];
    buffer = host().allocate(bytes);
    buffer.bytes = bytes;
    if (bytes > 0) std::memset(buffer.memory.get(), 0, bytes);
  }

 private:
  std::vector<Buffer> parts_;
};

/// Things that ranks make together: the first who comes makes it, the last who comes takes it off the table.
template <class T>
class MeetingTable {
 public:
  template <class Make>
  std::shared_ptr<T> join(std::pair<int, int> key, std::size_t guests, Make&& make) {
    const std::lock_guard lock(mutex_);
    auto& [object, came] = tables_[key];
    if (object == nullptr) object = make();
    std::shared_ptr<T> result = object;
    if (++came == guests) tables_.erase(key);
    return result;
  }

 private:
  std::mutex mutex_;
  std::map<std::pair<int, int>, std::pair<std::shared_ptr<T>, std::size_t>> tables_;
};

}  // namespace

class ThreadGroup {
 public:
  explicit ThreadGroup(std::size_t size) : boxes(size) {}
  std::vector<Mailbox> boxes;
  MeetingTable<ThreadGroup> subgroups;
  MeetingTable<ThreadSharedMemory> memories;
};

namespace {

class ThreadTransport final : public Transport {
 public:
  ThreadTransport(std::shared_ptr<ThreadGroup> group, int rank) : group_(std::move(group)), rank_(rank) {
    slots_.reserve(kUnderWay);
    posted_.reserve(kUnderWay);
    matched_.reserve(kUnderWay);
  }

  int rank() const noexcept override { return rank_; }
  int size() const noexcept override { return static_cast<int>(group_->boxes.size()); }
  bool thread_ranks() const noexcept override { return true; }
  std::string why_one_thread() const override { return {}; }
  Request isend(int peer, int tag, const void* data, std::size_t bytes) override;
  Request irecv(int peer, int tag, void* data, std::size_t bytes) override;
  bool test(Request& request) override;
  void abandon(Request& request) noexcept override;
  void retire() noexcept override {}       // messages go with the group
  std::unique_ptr<Transport> twin() override { return std::make_unique<ThreadTransport>(group_, rank_); }
  std::unique_ptr<Transport> subgroup(std::span<const int> members, int id) override;
  std::shared_ptr<SharedMemory> allocate_shared(std::size_t bytes, int id) override;

 private:
  struct Slot {
    int peer = 0;
    int tag = 0;
    std::byte* data = nullptr;             // receives only
    std::size_t bytes = 0;
    Envelope* envelope = nullptr;          // sends only; null: was buffered
    bool receive = false;
    bool done = false;
    std::size_t came = 0;                  // bytes of the message that was received
  };

  Mailbox& box(int rank) { return group_->boxes.at(static_cast<std::size_t>(rank)); }
  void receive_all();
  bool match_one(Mailbox& mine);

  static constexpr std::size_t kUnderWay = 64;   // transfers at a time before memory must grow

  std::shared_ptr<ThreadGroup> group_;
  int rank_;
  Slots<Slot> slots_;
  std::vector<std::int32_t> posted_;       // receives without a message yet, oldest first
  std::vector<std::pair<Envelope*, std::int32_t>> matched_;
  std::uint64_t seen_ = 0;
  bool new_receive_ = false;
};

Request ThreadTransport::isend(int peer, int tag, const void* data, std::size_t bytes) {
  Mailbox& theirs = box(peer);
  Slot content{.peer = peer, .tag = tag, .bytes = bytes};
  {
    const std::lock_guard lock(theirs.mutex);
    Envelope* envelope = theirs.take_unused();
    envelope->source = rank_;
    envelope->tag = tag;
    envelope->bytes = bytes;
    envelope->detached = bytes <= Envelope::kBuffered;
    envelope->taken.store(false, std::memory_order_relaxed);
    envelope->data = envelope->detached ? envelope->buffer.data() : static_cast<const std::byte*>(data);
    if (envelope->detached && bytes > 0) std::memcpy(envelope->buffer.data(), data, bytes);
    if (!envelope->detached) content.envelope = envelope;
    theirs.waiting.push_back(envelope);
  }
  theirs.arrivals.fetch_add(1, std::memory_order_release);
  return slots_.add(content);
}

Request ThreadTransport::irecv(int peer, int tag, void* data, std::size_t bytes) {
  check(peer >= 0 && peer < size(), Code::invalid_argument, "a receive from a rank outside the group");
  const Request request =
      slots_.add({.peer = peer, .tag = tag, .data = static_cast<std::byte*>(data), .bytes = bytes, .receive = true});
  posted_.push_back(request.slot());
  new_receive_ = true;
  return request;
}

bool ThreadTransport::match_one(Mailbox& mine) {
  for (std::size_t w = 0; w < mine.waiting.size(); ++w) {
    Envelope* envelope = mine.waiting[w];
    const auto post = std::find_if(posted_.begin(), posted_.end(), [&](std::int32_t index) {
      const Slot& s = slots_[index];
      return s.peer == envelope->source && s.tag == envelope->tag;
    });
    if (post == posted_.end()) continue;
    matched_.emplace_back(envelope, *post);
    posted_.erase(post);
    mine.waiting.erase(mine.waiting.begin() + static_cast<std::ptrdiff_t>(w));
    return true;
  }
  return false;
}

void ThreadTransport::receive_all() {
  Mailbox& mine = box(rank_);
  const std::uint64_t arrivals = mine.arrivals.load(std::memory_order_acquire);
  if (arrivals == seen_ && !new_receive_) return;
  seen_ = arrivals;
  new_receive_ = false;
  {
    const std::lock_guard lock(mine.mutex);
    while (match_one(mine)) {
    }
  }
  for (const auto& [envelope, index] : matched_) {   // copies run without the lock
    Slot& s = slots_[index];
    if (const std::size_t n = std::min(s.bytes, envelope->bytes); n > 0) std::memcpy(s.data, envelope->data, n);
    s.came = envelope->bytes;
    s.done = true;
    if (envelope->detached) mine.give_back(envelope);
    else envelope->taken.store(true, std::memory_order_release);
  }
  matched_.clear();
}

bool ThreadTransport::test(Request& request) {
  if (!request.active()) return true;
  if (!slots_[request].receive) {
    Envelope* envelope = slots_[request].envelope;
    if (envelope != nullptr) {
      if (!envelope->taken.load(std::memory_order_acquire)) return false;
      box(slots_[request].peer).give_back(envelope);
    }
    slots_.release(request);
    return true;
  }
  if (!slots_[request].done) receive_all();
  const Slot& s = slots_[request];
  if (!s.done) return false;
  const Slot result = s;
  slots_.release(request);
  if (result.came != result.bytes) {
    fail(Code::data_loss, fmt::format("rank {} sent {} bytes where rank {} expected {} (tag {})", result.peer,
                                      result.came, rank_, result.bytes, result.tag));
  }
  return true;
}

void ThreadTransport::abandon(Request& request) noexcept {
  if (!request.active()) return;
  if (slots_[request].receive) {
    std::erase(posted_, request.slot());
  } else if (Envelope* envelope = slots_[request].envelope; envelope != nullptr) {
    Mailbox& theirs = box(slots_[request].peer);
    bool untouched = false;
    {
      const std::lock_guard lock(theirs.mutex);
      untouched = std::erase(theirs.waiting, envelope) > 0;
    }
    while (!untouched && !envelope->taken.load(std::memory_order_acquire)) std::this_thread::yield();   // is being copied
    theirs.give_back(envelope);
  }
  slots_.release(request);
}

std::unique_ptr<Transport> ThreadTransport::subgroup(std::span<const int> members, int id) {
  const auto me = std::find(members.begin(), members.end(), rank_);
  check(me != members.end(), Code::invalid_argument, "a subgroup without the rank that makes it");
  auto group = group_->subgroups.join({id, members.front()}, members.size(),
                                      [&] { return std::make_shared<ThreadGroup>(members.size()); });
  return std::make_unique<ThreadTransport>(std::move(group), static_cast<int>(me - members.begin()));
}

std::shared_ptr<SharedMemory> ThreadTransport::allocate_shared(std::size_t bytes, int id) {
  const std::size_t ranks = group_->boxes.size();
  auto memory = group_->memories.join({id, 0}, ranks, [&] { return std::make_shared<ThreadSharedMemory>(ranks); });
  memory->add(rank_, bytes);
  return memory;
}

}  // namespace

std::shared_ptr<ThreadGroup> make_thread_group(int size) {
  return std::make_shared<ThreadGroup>(static_cast<std::size_t>(size));
}

std::unique_ptr<Transport> make_thread_transport(std::shared_ptr<ThreadGroup> group, int rank) {
  return std::make_unique<ThreadTransport>(std::move(group), rank);
}

}  // namespace cohort
