#include "cohort/comm/collective.hpp"

#include <algorithm>

#include "cohort/base/error.hpp"
#include "cohort/base/random.hpp"

namespace cohort {
namespace {

constexpr std::uint32_t kTags = 8192;            // operations that can be under way at once

int agreement_tag(std::uint32_t sequence) { return static_cast<int>(sequence % kTags); }
int payload_tag(std::uint32_t sequence) { return static_cast<int>(kTags + sequence % kTags); }

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  return (hash ^ value) * 0x9E3779B97F4A7C15ull + (hash >> 29);
}

}  // namespace

Block block_of(int rank, int ranks, std::size_t n) noexcept {
  const std::size_t units = (n + kBlockUnit - 1) / kBlockUnit, p = static_cast<std::size_t>(ranks);
  const auto begin_of = [&](std::size_t r) { return std::min(n, (units / p * r + units % p * r / p) * kBlockUnit); };
  const std::size_t begin = begin_of(static_cast<std::size_t>(rank));
  return {begin, begin_of(static_cast<std::size_t>(rank) + 1) - begin};
}

Work::Work(Collective& collective, Operation operation, const Bucket& bucket)
    : collective_(&collective), operation_(operation), bucket_(bucket),
      codec_(bucket.codec != nullptr ? bucket.codec : collective.options().codec.get()),
      agreement_(collective.communicator()) {}

Communicator& Work::communicator() const noexcept { return collective_->communicator_; }
const std::string& Work::algorithm() const noexcept { return collective_->algorithm_; }
int Work::tag() const noexcept { return payload_tag(sequence_); }

ExchangeContext Work::context(std::size_t offset) const noexcept {
  const int rank = collective_->options().rank;
  return {.step = step_, .bucket = bucket_.id, .rank = rank >= 0 ? rank : communicator().rank(), .offset = offset};
}

std::size_t Work::chunk_floats() const {
  const auto most = static_cast<std::size_t>(collective_->options_.chunk_bytes);
  constexpr std::size_t kSample = 64;   // units
  std::size_t units = most * kSample / codec().wire_bytes(kSample * kBlockUnit);
  while (units > 1 && codec().wire_bytes(units * kBlockUnit) > most) --units;
  return std::max<std::size_t>(1, units) * kBlockUnit;
}

std::size_t Work::messages_ahead(std::size_t bytes) noexcept {
  constexpr std::size_t kAheadBytes = 256 << 10, kMost = 32;
  return std::clamp<std::size_t>(kAheadBytes / std::max<std::size_t>(1, bytes), 1, kMost);
}

void Work::send(Transfer& transfer, int peer, const std::byte* wire, std::size_t elements) {
  const std::size_t bytes = codec_->wire_bytes(elements);
  sent_.elements += static_cast<std::int64_t>(elements);
  sent_.bytes += static_cast<std::int64_t>(bytes);
  transfer.send(peer, tag(), wire, bytes);
}

void Work::start(std::int64_t step) {
  check(!running(), Code::failed_precondition, "a bucket's work was started again before it was done");
  step_ = step;
  sent_ = {};
  communicator().rank_activity()->arrive({.step = step, .bucket = bucket_.id});
  sequence_ = collective_->started_++;
  std::uint64_t configuration = stream_of(collective_->algorithm_);
  configuration = mix(configuration, stream_of(collective_->options_.codec_name));
  configuration = mix(configuration, codec_->wire_bytes(1 << 20));
  configuration = mix(configuration, static_cast<std::uint64_t>(collective_->options_.chunk_bytes));
  configuration = mix(configuration, layout());
  agreement_.start({.step = step, .count = bucket_.n, .bucket = bucket_.id, .dtype = bucket_.dtype, .operation = operation_,
                    .configuration = configuration},
                   agreement_tag(sequence_));
  begin();
  started_at_ = agreed_at_ = 0;
  if (collective_->lane_ != nullptr && collective_->lane_->on()) started_at_ = communicator().context().profile->now();
  state_ = State::agreeing;
  collective_->active_.push_back(this);
  collective_->advance();   // the first message leaves now
}

void Work::step_once(bool earlier_agreed, bool my_turn) {
  if (state_ == State::agreeing && agreement_.advance()) {
    state_ = State::agreed;
    if (started_at_ > 0) agreed_at_ = communicator().context().profile->now();
  }
  // Results count in the order of the starts: a rank that gave up here could not help the others with an earlier agreement.
  if (state_ == State::agreed && earlier_agreed && !agreement_.mismatch().empty()) {
    fail(Code::failed_precondition, agreement_.mismatch());
  }
  if (state_ == State::agreed && earlier_agreed && my_turn) {
    progress_ = run();
    state_ = State::running;
  }
  if (state_ != State::running || !progress_.advance()) return;
  state_ = State::idle;
  if (started_at_ > 0) record_end();
}

void Work::record_end() noexcept {
  const double now = communicator().context().profile->now();
  TraceEvent event{.begin = started_at_, .end = now, .name = collective_->bucket_name_, .id = bucket_.id, .step = step_ + 1, .overlaps = true};
  collective_->lane_->add(event);
  event.name = collective_->agreeing_name_;
  event.end = agreed_at_;
  collective_->lane_->add(event);
}

void Work::stop() noexcept {
  progress_.reset();
  agreement_.reset();
  state_ = State::idle;
}

bool Work::advance() {
  if (running()) collective_->outermost().advance();
  return !running();
}

void Work::wait() {
  collective_->outermost().communicator_.wait([this] { return status(); }, [this] { return advance(); });
}

WaitStatus Work::status() const {
  const int peer = state_ == State::agreeing ? agreement_.peer() : state_ == State::running ? progress_.peer() : -1;
  return {.operation = name(operation_), .peer = peer, .step = step_, .bucket = bucket_.id};
}

CollectiveOptions::CollectiveOptions(Section& section) {
  std::vector<std::string> algorithms = Registry<CollectiveType>::instance().names();
  algorithms.insert(algorithms.begin(), "auto");
  section.bind("algorithm", algorithm, "how gradients are summed", one_of(algorithms));
  section.bind("codec", codec_name, "how gradients travel", one_of(Registry<CodecType>::instance().names()));
  section.bind("chunk_bytes", chunk_bytes, "longest message of pipelined algorithms, in bytes as it travels", between(1024, 1 << 30));
  section.bind("inter", inter, "hierarchical: how nodes sum among themselves", one_of(algorithms));
  network = NetworkConstants(section.child("network"));
  codec = Registry<CodecType>::instance().get(codec_name).make(section.child(codec_name));
}

CollectiveOptions CollectiveOptions::with_codec(const std::string& name) const {
  CollectiveOptions options = *this;
  options.codec_name = name;
  options.codec = codec_named(name);
  return options;
}

Collective::Collective(Communicator& communicator, const CollectiveOptions& options)
    : options_(options), communicator_(communicator.duplicate()) {
  check(options_.codec != nullptr, Code::invalid_argument, "a collective needs a codec: use make_collective");
  check(options_.chunk_bytes >= 4, Code::invalid_argument, "chunk_bytes must be at least the 4 bytes of one float");
}

Buffer Collective::allocate(std::size_t bytes) {
  Buffer buffer = host().allocate(bytes);
  if (bytes > 0) std::fill_n(static_cast<std::byte*>(buffer.memory.get()), bytes, std::byte{0});
  return buffer;
}

Work& Collective::prepare(Operation operation, const Bucket& bucket) {
  check(bucket.n == 0 || bucket.data != nullptr, Code::invalid_argument,
        "bucket " + std::to_string(bucket.id) + " has elements but no memory");
  works_.push_back(make_work(operation, bucket));
  active_.reserve(works_.size());
  return *works_.back();
}

void Collective::trace_to(std::string_view lane) {
  Profile& profile = *communicator_.context().profile;
  lane_ = &profile.lane(lane);
  bucket_name_ = profile.name("bucket");
  agreeing_name_ = profile.name("wait for all ranks");
}

bool Collective::advance() {
  communicator_.cancel_flag()->throw_if_set();
  bool first = true, agreed = true;
  for (std::size_t i = 0; i < active_.size();) {
    Work& work = *active_[i];
    try {
      work.step_once(agreed, first || !one_at_a_time());
    } catch (...) {
      communicator_.transport().retire();
      work.stop();
      active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(i));
      throw;
    }
    if (work.running()) {
      first = false;
      agreed = agreed && work.state_ != Work::State::agreeing;
      ++i;
    } else {
      active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  return active_.empty();
}

}  // namespace cohort
