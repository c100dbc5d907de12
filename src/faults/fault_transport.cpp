#include "faults/fault_transport.hpp"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <utility>

#include "cohort/base/error.hpp"
#include "cohort/base/random.hpp"
#include "comm/slots.hpp"

namespace cohort {
namespace {

class FaultTransport final : public Transport, private LibraryCollectives {
 public:
  FaultTransport(std::unique_ptr<Transport> below, std::shared_ptr<Injection> injection, std::vector<int> job_ranks, std::uint64_t group)
      : below_(std::move(below)), injection_(std::move(injection)), job_ranks_(std::move(job_ranks)), group_(group) {}
  FaultTransport(const FaultTransport&) = delete;
  FaultTransport& operator=(const FaultTransport&) = delete;
  ~FaultTransport() override { give_up_copies(); }

  int rank() const noexcept override { return below_->rank(); }
  int size() const noexcept override { return below_->size(); }
  bool thread_ranks() const noexcept override { return below_->thread_ranks(); }
  std::string why_one_thread() const override { return below_->why_one_thread(); }
  Request isend(int peer, int tag, const void* data, std::size_t bytes) override;
  Request irecv(int peer, int tag, void* data, std::size_t bytes) override {
    return slots_.add({.below = below_->irecv(peer, tag, data, bytes)});
  }
  bool test(Request& request) override;
  void abandon(Request& request) noexcept override;
  void retire() noexcept override { below_->retire(); }
  std::unique_ptr<Transport> subgroup(std::span<const int> members, int id) override;
  std::unique_ptr<Transport> twin() override {
    return std::make_unique<FaultTransport>(below_->twin(), injection_, job_ranks_, name_of(kTwin, twins_++));
  }
  std::shared_ptr<SharedMemory> allocate_shared(std::size_t bytes, int id) override { return below_->allocate_shared(bytes, id); }
  bool groups_wait() const noexcept override { return below_->groups_wait(); }
  void expect_wrong_sizes() noexcept override { below_->expect_wrong_sizes(); }
  std::unique_ptr<Transport> spawn(const std::string& program, const std::vector<std::string>& words) override {
    return below_->spawn(program, words);   // nothing goes wrong with a replacement
  }
  LibraryCollectives* library() noexcept override { return below_->library() == nullptr ? nullptr : this; }

 private:
  struct Channel {                          // to one peer with one tag
    std::int64_t step = -2;                 // that `number` counts in
    std::int64_t number = 0;
    std::deque<std::int32_t> held;          // slots of messages that have not left yet, oldest first
  };
  struct Slot {
    Request below{};                        // not active: held, or never to be sent
    const void* data = nullptr;             // from here on: sends that are held
    std::size_t bytes = 0;
    int peer = 0, tag = 0, copies = 1;
    double due = 0;
    Channel* held_in = nullptr;
  };
  struct Copy {                             // nobody waits for it
    Request below;
    std::unique_ptr<std::byte[]> memory;
  };
  enum Relation : std::uint64_t { kTwin, kSubgroup };

  Request start_all_reduce(float* data, std::size_t n) override {
    warn_of_library();
    return slots_.add({.below = below_->library()->start_all_reduce(data, n)});
  }
  Request start_all_gather(float* data, std::span<const int> counts, std::span<const int> starts) override {
    warn_of_library();
    return slots_.add({.below = below_->library()->start_all_gather(data, counts, starts)});
  }
  void all_reduce(float* data, std::size_t n) override { below_->library()->all_reduce(data, n); }
  void warn_of_library() { injection_->warn_of("the collectives of the MPI library"); }

  [[nodiscard]] std::uint64_t name_of(Relation relation, std::int64_t id) const {
    const auto words = philox(group_, relation, static_cast<std::uint64_t>(id));
    return std::uint64_t{words[0]} << 32 | words[1];
  }
  FaultPlan::MessageFate fate_of_next(Channel& channel, int peer, int tag);
  void send_now(Slot& s);
  void send_copy(const Slot& s);
  void send_due();
  void give_up_copies() noexcept;

  std::unique_ptr<Transport> below_;
  std::shared_ptr<Injection> injection_;
  std::vector<int> job_ranks_;
  std::uint64_t group_;
  int twins_ = 0;
  Slots<Slot> slots_;
  std::map<std::pair<int, int>, Channel> channels_;   // by peer and tag; they stay where they are
  std::vector<Channel*> holding_;
  std::vector<Copy> copies_;
};

FaultPlan::MessageFate FaultTransport::fate_of_next(Channel& channel, int peer, int tag) {
  const std::int64_t step = injection_->activity->position().step;
  if (std::exchange(channel.step, step) != step) channel.number = 0;
  return injection_->plan->fate(FaultPlan::Message{.rank = job_ranks_.at(static_cast<std::size_t>(rank())),
                                                   .peer = job_ranks_.at(static_cast<std::size_t>(peer)),
                                                   .step = step, .group = group_, .tag = tag, .number = channel.number++});
}

Request FaultTransport::isend(int peer, int tag, const void* data, std::size_t bytes) {
  send_due();
  Channel& channel = channels_[{peer, tag}];
  const FaultPlan::MessageFate fate = fate_of_next(channel, peer, tag);
  if (fate.copies == 0) return slots_.add({});
  Slot s{.data = data, .bytes = bytes, .peer = peer, .tag = tag, .copies = fate.copies};
  if (fate.delay <= 0 && channel.held.empty()) {
    send_now(s);
    return slots_.add(s);
  }
  s.due = injection_->context.clock->now() + fate.delay;
  s.held_in = &channel;
  const Request request = slots_.add(s);
  if (channel.held.empty()) holding_.push_back(&channel);
  channel.held.push_back(request.slot());
  return request;
}

void FaultTransport::send_now(Slot& s) {
  s.held_in = nullptr;
  s.below = below_->isend(s.peer, s.tag, s.data, s.bytes);
  for (int i = 1; i < s.copies; ++i) send_copy(s);
}

/// From memory of its own: the sender may go on once the original has gone.
void FaultTransport::send_copy(const Slot& s) {
  below_->retire();
  Copy copy{.below = {}, .memory = std::make_unique<std::byte[]>(s.bytes)};
  if (s.bytes > 0) std::memcpy(copy.memory.get(), s.data, s.bytes);
  copy.below = below_->isend(s.peer, s.tag, copy.memory.get(), s.bytes);
  copies_.push_back(std::move(copy));
}

void FaultTransport::send_due() {
  std::erase_if(copies_, [this](Copy& copy) { return below_->test(copy.below); });
  if (holding_.empty()) return;
  const double now = injection_->context.clock->now();
  for (Channel* channel : holding_) {
    while (!channel->held.empty() && slots_[channel->held.front()].due <= now) {
      Slot& s = slots_[channel->held.front()];
      channel->held.pop_front();
      send_now(s);
    }
  }
  std::erase_if(holding_, [](const Channel* channel) { return channel->held.empty(); });
}

bool FaultTransport::test(Request& request) {
  if (!request.active()) return true;
  send_due();
  Slot& s = slots_[request];
  if (s.held_in != nullptr) return false;
  try {
    if (!below_->test(s.below)) return false;
  } catch (...) {
    if (!s.below.active()) slots_.release(request);
    throw;
  }
  slots_.release(request);
  return true;
}

void FaultTransport::abandon(Request& request) noexcept {
  if (!request.active()) return;
  Slot& s = slots_[request];
  if (s.held_in != nullptr) {
    std::erase(s.held_in->held, request.slot());
    if (s.held_in->held.empty()) std::erase(holding_, s.held_in);
    below_->retire();
  } else {
    below_->abandon(s.below);
  }
  slots_.release(request);
}

std::unique_ptr<Transport> FaultTransport::subgroup(std::span<const int> members, int id) {
  std::vector<int> job_ranks;
  for (const int member : members) job_ranks.push_back(job_ranks_.at(static_cast<std::size_t>(member)));
  return std::make_unique<FaultTransport>(below_->subgroup(members, id), injection_, std::move(job_ranks), name_of(kSubgroup, id));
}

void FaultTransport::give_up_copies() noexcept {
  for (Copy& copy : copies_) {
    const bool waiting = copy.below.active();
    below_->abandon(copy.below);
    if (waiting && !thread_ranks()) (void)copy.memory.release();   // MPI may still read it: until the process ends
  }
}

}  // namespace

void Injection::warn_of(const std::string& what) {
  if (warned.exchange(true)) return;
  context.log.warning("[[fault]]: " + what + " move data without messages of the transport: no fault of messages meets them");
}

std::unique_ptr<Transport> make_fault_transport(std::unique_ptr<Transport> below, std::shared_ptr<Injection> injection,
                                                std::vector<int> job_ranks) {
  return std::make_unique<FaultTransport>(std::move(below), std::move(injection), std::move(job_ranks), 0);
}

}  // namespace cohort
