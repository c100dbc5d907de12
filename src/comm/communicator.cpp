#include "cohort/comm/communicator.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <utility>

#include "cohort/base/error.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/tensor/device.hpp"

namespace cohort {
namespace {

constexpr double kSuspended = 2;     // seconds without a look at the clock: this process did not run
constexpr double kMeetSeconds = 30;  // for a new process to read its configuration
constexpr const char* kTooLate = "its replacement came after it had been given up";

/// Of this process.
std::vector<std::string> command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');) words.push_back(word);
  return words;
}

/// Shared with nobody: without a window it may lie in huge pages.
class OwnMemory final : public SharedMemory {
 public:
  explicit OwnMemory(std::size_t bytes) : memory_(host().allocate(bytes)) { std::ranges::fill(part(0), std::byte{0}); }
  std::span<std::byte> part(int) const noexcept override { return {static_cast<std::byte*>(memory_.memory.get()), memory_.bytes}; }

 private:
  Buffer memory_;
};

}  // namespace

Communicator::Communicator(std::unique_ptr<Transport> transport, Context context, NodeMap nodes,
                           std::shared_ptr<CancelFlag> cancel)
    : transport_(std::move(transport)), context_(std::move(context)), nodes_(std::move(nodes)), cancel_(std::move(cancel)) {}

void Communicator::set_timeout(double seconds) {
  check(seconds > 0, Code::invalid_argument, "a communicator's timeout must be above 0 seconds");
  timeout_ = seconds;
}

Communicator::Wait::Wait(const Communicator& communicator)
    : communicator_(communicator), backoff_(*communicator.context_.clock), since_(communicator.context_.clock->now()),
      last_look_(since_) {}

Communicator::Wait::~Wait() { communicator_.activity_->clear(); }

void Communicator::Wait::pause() {
  communicator_.cancel_->throw_if_set();
  backoff_.pause();
}

void Communicator::Wait::look(WaitStatus status) {
  const double now = communicator_.context_.clock->now();
  if (now - last_look_ > kSuspended) since_ += now - last_look_;   // the whole job was, most likely: nobody is late
  last_look_ = now;
  status.since = since_;
  if (status.peer >= 0) status.peer = communicator_.job_rank(status.peer);
  communicator_.activity_->publish(status);
  const double waited = now - std::max(since_, communicator_.rank_activity_->excused());
  if (waited < communicator_.timeout_) return;
  fail(Code::deadline_exceeded, fmt::format("rank {} waited {:.3g} s for {} (limit {:g} s)", communicator_.context_.rank,
                                            waited, status.text(), communicator_.timeout_));
}

int Communicator::job_rank(int rank) const {
  return job_ranks_.empty() ? rank : job_ranks_.at(static_cast<std::size_t>(rank));
}

/// What all communicators of a rank share.
Communicator Communicator::related(std::unique_ptr<Transport> transport, NodeMap nodes) {
  Communicator other(std::move(transport), context_, std::move(nodes), cancel_);
  other.timeout_ = timeout_;
  other.membership_ = membership_;
  other.decorator_ = decorator_;
  other.rank_activity_ = rank_activity_;
  other.activity_ = rank_activity_->add();
  return other;
}

void Communicator::decorate(std::shared_ptr<TransportDecorator> decorator) {
  check(decorator != nullptr && decorator_ == nullptr, Code::failed_precondition,
        "decorate: one decorator of transports, once");
  decorator_ = std::move(decorator);
  std::vector<int> job_ranks;
  for (int rank = 0; rank < size(); ++rank) job_ranks.push_back(job_rank(rank));
  transport_ = decorator_->wrap(std::move(transport_), std::move(job_ranks));
}

void Communicator::begin_step(std::int64_t step) {
  rank_activity_->arrive({.step = step});
  if (decorator_ != nullptr) decorator_->begin_step(step);
}

Communicator Communicator::twin() {
  Communicator other = related(transport_->twin(), nodes_);
  other.job_ranks_ = job_ranks_;
  return other;
}

Communicator Communicator::make_group(const std::vector<int>& members, int id) {
  std::vector<int> labels;
  for (const int member : members) labels.push_back(nodes_.node_of(member));
  Communicator group = related(transport_->subgroup(members, id), NodeMap(labels));
  for (const int member : members) group.job_ranks_.push_back(job_rank(member));
  return group;
}

Communicator Communicator::split(int color, int key) {
  check(color >= 0, Code::invalid_argument, "split: the color must be 0 or more on every rank");
  struct Entry {
    int color, key, rank;
  };
  std::vector<Entry> entries = all_gather_value(*this, Entry{color, key, rank()});
  std::erase_if(entries, [&](const Entry& e) { return e.color != color; });
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.key != b.key ? a.key < b.key : a.rank < b.rank; });
  std::vector<int> members;
  for (const Entry& entry : entries) members.push_back(entry.rank);
  return make_group(members, groups_++);
}

Communicator Communicator::duplicate() {
  barrier(*this);   // making the group may block in the library without a deadline: first be sure that all are here
  std::vector<int> members(static_cast<std::size_t>(size()));
  for (int rank = 0; rank < size(); ++rank) members[static_cast<std::size_t>(rank)] = rank;
  return make_group(members, groups_++);
}

Communicator Communicator::alone() { return make_group({rank()}, groups_++); }

Communicator Communicator::spawn(int lost, const std::function<bool()>& wanted) {
  check(context_.launches, Code::unavailable, "the launcher of this job starts no further processes: mpirun does");
  barrier(*this);   // as in duplicate()
  const std::vector<std::string> line = command_line();
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const NodeMap unknown(std::vector<int>(static_cast<std::size_t>(size()) + 1, 0));
  Communicator joined = related(transport_->spawn(program, {line.begin() + 1, line.end()}), unknown);
  std::vector<int> ranks;
  for (int member = 0; member < size(); ++member) ranks.push_back(job_rank(member));
  ranks.push_back(lost);
  joined.job_ranks_ = ranks;
  joined.activity_ = std::make_shared<Activity>();
  joined.meet(std::move(ranks), wanted);
  return joined;
}

Communicator Communicator::join(std::unique_ptr<Transport> transport, Context context) {
  const NodeMap unknown(std::vector<int>(static_cast<std::size_t>(transport->size()), 0));
  Communicator joined(std::move(transport), std::move(context), unknown);
  joined.meet(std::vector<int>(static_cast<std::size_t>(joined.size())));
  return joined;
}

/// Who and where all are, as rank 0 knows it and each says; what the last one needs to be one of the job's ranks.
void Communicator::meet(std::vector<int> job_ranks, const std::function<bool()>& wanted) {
  const double usual = std::exchange(timeout_, kMeetSeconds);
  broadcast_values(*this, std::span(job_ranks), 0);
  job_ranks_ = std::move(job_ranks);
  context_.rank = job_rank(rank());
  broadcast_values(*this, std::span(&context_.ranks, 1), 0);
  std::string door = membership_->door();
  double heartbeat_timeout = membership_->heartbeat_timeout();
  broadcast(*this, door, 0);
  broadcast_values(*this, std::span(&heartbeat_timeout, 1), 0);
  const int last = size() - 1;
  if (rank() == last) {
    context_.log = Log(fmt::format("[rank {} on {}] ", context_.rank, context_.host));
    membership_->allow_losses({context_.rank}, heartbeat_timeout);
    membership_->set_door(door);
  }
  const std::vector<std::string> hosts = all_gather(*this, context_.host);
  std::vector<int> labels;
  for (const std::string& host : hosts) labels.push_back(static_cast<int>(std::ranges::find(hosts, host) - hosts.begin()));
  nodes_ = NodeMap(labels);
  if (rank() != last) {
    const bool lost = membership_->lost(job_rank(last));             // not so if another has taken the place meanwhile
    membership_->replace(job_rank(last), hosts.back());
    if (lost && !wanted()) membership_->lose(job_rank(last), kTooLate);   // whoever gave it up before had nothing to lose yet
  }
  barrier(*this);   // from here on the door is open
  timeout_ = usual;
}

std::shared_ptr<SharedMemory> Communicator::allocate_shared(std::size_t bytes) {
  check(nodes_.nodes() == 1, Code::failed_precondition,
        "shared memory needs all ranks on one node, here are " + nodes_.text());
  if (size() == 1) return std::make_shared<OwnMemory>(bytes);
  if (rank() == 0 && decorator_ != nullptr) decorator_->on_bypass("shared windows");
  barrier(*this);   // as in duplicate()
  std::shared_ptr<SharedMemory> memory = transport_->allocate_shared(bytes, groups_++);
  barrier(*this);   // every part is there and zero
  return memory;
}

}  // namespace cohort
