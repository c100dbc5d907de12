#include "cohort/data/pipeline.hpp"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <thread>

#include "base/about.hpp"
#include "base/sizes.hpp"
#include "cohort/base/error.hpp"
#include "data/augment.hpp"

namespace cohort {
namespace {

/// A batch with the memory that it lives in, used again and again.
struct Slot {
  SampleBatch batch;
  std::vector<Buffer> memory;                ///< of each field, for the largest share
  std::vector<void*> buffers;
  std::vector<std::uint32_t> indices;
  Augmenter augmenter;
  std::exception_ptr error;
  bool ready = false;

  Slot(const Reader& reader, std::int64_t most_samples, const AugmentOptions& augment, std::uint64_t seed)
      : augmenter(augment, seed, reader) {
    indices.reserve(static_cast<std::size_t>(most_samples));
    for (const Field& field : reader.fields()) {
      const std::size_t each = static_cast<std::size_t>(field.shape.elements()) * size_of(field.dtype);
      const std::string what = "memory for a batch of " + std::to_string(most_samples) + " samples (data.batch, data.global_batch)";
      memory.push_back(about(what, [&] {
        return host().allocate(static_cast<std::size_t>(
            product_of({{"bytes of field '" + field.name + "'", static_cast<std::int64_t>(each)}, {"samples", most_samples}})));
      }));
      buffers.push_back(memory.back().memory.get());
      batch.fields.push_back({field.name, {}});
    }
  }

  /// Sets the tensors to the first `samples` rows of their memory.
  void shape_fields(const std::vector<Field>& fields, std::int64_t samples) {
    for (std::size_t f = 0; f < fields.size(); ++f) {
      Shape shape = fields[f].shape;
      shape.insert(0, samples);
      batch.fields[f].tensor = Tensor(host(), fields[f].dtype, shape, buffers[f], memory[f].memory);
    }
  }
};

/// One batch to prepare: its number since the last seek, and its place in the data.
struct Ticket {
  std::uint64_t number = 0;
  Position from;
  EpochOrder order;
};

PipelineOptions for_use(PipelineOptions options, BatchUse use) {
  if (use == BatchUse::training) return options;
  options.shuffle = options.drop_last = false;
  options.augment = {};
  return options;
}

}  // namespace

struct BatchPipeline::State {
  State(std::shared_ptr<const Reader> the_reader, const PipelineOptions& the_options, int the_rank, int ranks, BatchUse use)
      : reader(std::move(the_reader)),
        options(for_use(the_options, use)),
        rank(the_rank),
        endless(use == BatchUse::training),
        samples(reader->size()),
        plan(options, ranks),
        order(samples, options.seed, options.shuffle) {
    check(rank >= 0 && rank < ranks, Code::invalid_argument,
          "rank " + std::to_string(rank) + " of " + std::to_string(ranks));
    check(!endless || samples > 0, Code::invalid_argument, "the data set has no samples to train with");
    if (endless && options.drop_last && samples < plan.global_batch()) {
      fail(Code::invalid_argument, "drop_last with a global batch of " + std::to_string(plan.global_batch()) +
                                       ", but the data set has only " + std::to_string(samples) + " samples");
    }
    const auto count = static_cast<std::size_t>(options.threads == 0 ? 1 : options.prefetch + 1);
    const std::int64_t most = std::min(plan.share(rank, plan.global_batch()).samples, samples);
    for (std::size_t i = 0; i < count; ++i) slots.emplace_back(*reader, most, options.augment, options.seed);
  }

  [[nodiscard]] std::int64_t end_of(const Position& from) const {
    return std::min(from.sample + plan.global_batch(), samples);
  }

  /// The first place at or after `at` where a batch begins.
  [[nodiscard]] Position settle(Position at) const {
    const std::int64_t least = options.drop_last ? plan.global_batch() : 1;
    return at.sample + least > samples ? Position{at.epoch + 1, 0} : at;
  }
  [[nodiscard]] bool ended(const Position& at) const { return !endless && at.epoch > 0; }

  /// Under the lock (or without threads).
  Ticket take_ticket() {
    Ticket ticket{taken++, cursor, order.of_epoch(cursor.epoch)};
    cursor = settle({cursor.epoch, end_of(cursor)});
    return ticket;
  }

  void fill(Slot& slot, const Ticket& ticket) const {
    const std::int64_t begin = ticket.from.sample, end = end_of(ticket.from);
    const Share share = plan.share(rank, end - begin);
    SampleBatch& batch = slot.batch;
    batch.epoch = ticket.from.epoch;
    batch.step_in_epoch = begin / plan.global_batch();
    batch.last_in_epoch = settle({ticket.from.epoch, end}).epoch != ticket.from.epoch;
    batch.samples = share.samples;
    batch.global_samples = end - begin;
    batch.row_offset = share.offset;
    batch.row_stride = share.stride;
    slot.indices.clear();
    for (std::int64_t i = 0; i < share.samples; ++i) {
      slot.indices.push_back(ticket.order[static_cast<std::uint32_t>(begin + share.offset + i * share.stride)]);
    }
    batch.indices = slot.indices;
    slot.shape_fields(reader->fields(), share.samples);
    if (share.samples == 0) return;
    reader->read(slot.indices, slot.buffers);
    slot.augmenter.apply(batch.epoch, slot.indices, slot.buffers);
  }

  void produce(const std::stop_token& stop) {
    for (;;) {
      std::unique_lock lock(mutex);
      room.wait(lock, stop, [&] { return ended(cursor) || taken - given_back < slots.size(); });
      if (stop.stop_requested() || ended(cursor)) return;
      Slot& slot = slots[taken % slots.size()];
      try {
        const Ticket ticket = take_ticket();   // which may have to make a list of the epoch's order
        lock.unlock();
        fill(slot, ticket);
      } catch (...) {   // the root of a thread: the consumer throws it in its place
        slot.error = std::current_exception();
      }
      if (!lock.owns_lock()) lock.lock();
      slot.ready = true;
      lock.unlock();
      filled.notify_one();
    }
  }

  void start() {
    about("starting " + std::to_string(options.threads) + " threads that prepare batches (data.threads)", [&] {
      for (int i = 0; i < options.threads; ++i) threads.emplace_back([this](const std::stop_token& stop) { produce(stop); });
    });
  }
  void stop() noexcept {
    for (std::jthread& thread : threads) thread.request_stop();
    threads.clear();
  }

  Slot& wait_for_slot() {
    Slot& slot = slots[given % slots.size()];
    if (options.threads == 0) {
      fill(slot, take_ticket());
      return slot;
    }
    if (threads.empty()) start();
    std::unique_lock lock(mutex);
    filled.wait(lock, [&] { return slot.ready; });
    slot.ready = false;
    return slot;
  }

  void give_back() {
    if (given == given_back) return;
    {
      const std::lock_guard lock(mutex);
      given_back = given;
    }
    room.notify_one();
  }

  std::shared_ptr<const Reader> reader;
  PipelineOptions options;
  int rank;
  bool endless;
  std::int64_t samples;
  BatchPlan plan;
  SampleOrder order;
  std::vector<Slot> slots;

  Position next_out;                 ///< of the consumer
  std::uint64_t given = 0;           ///< batches that the consumer got since the last seek
  std::exception_ptr error;          ///< thrown to the consumer

  std::mutex mutex;                  ///< guards what follows, `order` and the slots' `ready`
  std::condition_variable_any room, filled;
  Position cursor;                   ///< of the producers
  std::uint64_t taken = 0, given_back = 0;
  std::vector<std::jthread> threads; ///< last: they end before what they use goes
};

BatchPipeline::BatchPipeline(std::shared_ptr<const Reader> reader, const PipelineOptions& options, int rank, int ranks,
                             BatchUse use)
    : state_(std::make_unique<State>(std::move(reader), options, rank, ranks, use)) {
  seek({});
}

BatchPipeline::~BatchPipeline() { state_->stop(); }

const SampleBatch* BatchPipeline::next() {
  State& s = *state_;
  s.give_back();
  if (s.error) std::rethrow_exception(s.error);
  if (s.ended(s.next_out)) return nullptr;
  Slot* slot = nullptr;
  try {
    slot = &s.wait_for_slot();
  } catch (...) {   // prepared in this thread: it counts as the producers' errors do
    s.error = std::current_exception();
    throw;
  }
  if (slot->error) {
    s.error = slot->error;
    s.stop();
    std::rethrow_exception(s.error);
  }
  ++s.given;
  s.next_out = s.settle({s.next_out.epoch, s.end_of(s.next_out)});
  return &slot->batch;
}

Position BatchPipeline::position() const noexcept { return state_->next_out; }

void BatchPipeline::seek(Position position) {
  State& s = *state_;
  if (position.epoch < 0 || position.sample < 0 || position.sample > s.samples) {
    fail(Code::out_of_range, "data position epoch " + std::to_string(position.epoch) + ", sample " +
                                 std::to_string(position.sample) + " in a set of " + std::to_string(s.samples) + " samples");
  }
  s.stop();
  for (Slot& slot : s.slots) {
    slot.ready = false;
    slot.error = nullptr;
  }
  s.error = nullptr;
  s.given = s.given_back = s.taken = 0;
  s.cursor = s.next_out = s.settle(position);
}

std::int64_t BatchPipeline::global_batch() const noexcept { return state_->plan.global_batch(); }

std::int64_t BatchPipeline::steps_per_epoch() const noexcept {
  const std::int64_t batch = global_batch(), rest = state_->options.drop_last ? 0 : batch - 1;
  return (state_->samples + rest) / batch;
}

std::int64_t BatchPipeline::batch_bytes() const noexcept {
  std::int64_t bytes = 0;
  for (const Slot& slot : state_->slots) {
    for (const Buffer& memory : slot.memory) bytes += static_cast<std::int64_t>(memory.bytes);
  }
  return bytes;
}

const Reader& BatchPipeline::reader() const noexcept { return *state_->reader; }

}  // namespace cohort
