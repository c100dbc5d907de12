#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/comm/agreement.hpp"
#include "cohort/comm/codec.hpp"
#include "cohort/comm/communicator.hpp"
#include "cohort/comm/cost_model.hpp"
#include "cohort/comm/progress.hpp"

namespace cohort {

/// A part of a bucket.
struct Block {
  std::size_t begin = 0;
  std::size_t size = 0;
  [[nodiscard]] std::size_t end() const noexcept { return begin + size; }
};

/// Elements that blocks never cut.
inline constexpr std::size_t kBlockUnit = 256;

/// The part of `n` elements that `rank` of `ranks` owns: consecutive, as equal as multiples of kBlockUnit allow (so
/// codec blocks and vector registers are not cut); empty for some ranks if n is small.
[[nodiscard]] Block block_of(int rank, int ranks, std::size_t n) noexcept;

/// What ranks exchange: `n` floats. All ranks describe a bucket alike, but for the addresses.
struct Bucket {
  int id = 0;
  float* data = nullptr;                  ///< n floats, best in memory from Collective::allocate()
  std::size_t n = 0;
  DType dtype = DType::float32;           ///< of the parameters behind it; only compared between the ranks
  float* residual = nullptr;              ///< n floats that a lossy codec keeps its error in; null: no error feedback
  const Codec* codec = nullptr;           ///< null: the collective's own
};

class Collective;

/// What a rank has sent of a bucket: floats, and the bytes that they took. Between two places in one memory nothing is sent.
struct Traffic {
  std::int64_t elements = 0, bytes = 0;
};

/// One operation on one bucket, made once and started every step; starting and running allocate nothing. Belongs to its
/// collective, and the same thread drives it.
class Work : public FrameOwner {
 public:
  Work(Collective& collective, Operation operation, const Bucket& bucket);
  virtual ~Work() = default;

  /// Collective. Begins the operation; returns at once. All ranks start the works of a collective in the same order.
  void start(std::int64_t step);
  /// Drives this work and the others that were started before it, never blocks; true when this one is done. Errors:
  /// failed_precondition, the same on all ranks, if the ranks do not agree on what to do; cancelled; those of the transport.
  bool advance();
  /// Drives it to its end within the communicator's timeout; the error names rank, operation, bucket and step.
  void wait();
  /// True when all ranks are known to have started it.
  [[nodiscard]] bool agreed() const noexcept { return state_ != State::agreeing; }

  [[nodiscard]] bool running() const noexcept { return state_ != State::idle; }
  [[nodiscard]] const std::string& algorithm() const noexcept;   ///< that serves it: what `auto` chose
  [[nodiscard]] Operation operation() const noexcept { return operation_; }
  [[nodiscard]] const Bucket& bucket() const noexcept { return bucket_; }
  [[nodiscard]] std::int64_t step() const noexcept { return step_; }
  [[nodiscard]] WaitStatus status() const;   ///< what it waits for now
  /// By this rank since the last start; nothing is known of what the MPI library sends.
  [[nodiscard]] virtual Traffic sent() const noexcept { return sent_; }

 protected:
  /// Called by `start`, before the other ranks can hear of it: the input is written.
  virtual void begin() {}
  /// The algorithm, run once per start, when all ranks are known to have started (so all have written their input).
  virtual Progress run() = 0;

  [[nodiscard]] Communicator& communicator() const noexcept;
  [[nodiscard]] int rank() const noexcept { return communicator().rank(); }
  [[nodiscard]] int size() const noexcept { return communicator().size(); }
  [[nodiscard]] int tag() const noexcept;              ///< for the messages of this start; one tag, so order counts
  [[nodiscard]] Block block(int owner) const noexcept { return block_of(owner, size(), bucket_.n); }
  [[nodiscard]] const Codec& codec() const noexcept { return *codec_; }
  [[nodiscard]] ExchangeContext context(std::size_t offset) const noexcept;
  /// Floats in a message of at most chunk_bytes on the wire: whole units, one at least.
  [[nodiscard]] std::size_t chunk_floats() const;
  /// How many messages of so many bytes a rank sends ahead of those that have come to it, where several send to one or two to
  /// each other: more than a fast line holds, less than the queue of a slow one. What overruns a queue is dropped, and TCP waits
  /// long before it repeats the last of it.
  [[nodiscard]] static std::size_t messages_ahead(std::size_t bytes) noexcept;
  /// Begins to send a run of so many floats as the codec wrote it; the message is counted.
  void send(Transfer& transfer, int peer, const std::byte* wire, std::size_t elements);
  /// What this rank adds to the comparison of configurations, besides algorithm and codec.
  virtual std::uint64_t layout() const noexcept { return 0; }

 private:
  friend class Collective;
  enum class State : std::uint8_t { idle, agreeing, agreed, running };

  void step_once(bool earlier_agreed, bool my_turn);
  void record_end() noexcept;
  void stop() noexcept;

  Collective* collective_;
  Operation operation_;
  Bucket bucket_;
  const Codec* codec_;
  State state_ = State::idle;
  std::int64_t step_ = -1;
  Traffic sent_;
  std::uint32_t sequence_ = 0;            // the how manieth start of the collective this is
  Agreement agreement_;
  Progress progress_;
  double started_at_ = 0, agreed_at_ = 0;   // while a trace is recorded
};

struct CollectiveOptions {
  std::string algorithm = "auto";         ///< a registered name, or auto
  std::string codec_name = "fp32";
  std::int64_t chunk_bytes = 60 << 10;    ///< longest message of pipelined algorithms, in bytes on the wire; one unit at least
  bool rank_order = false;                ///< deterministic sums: every element is summed in rank order
  std::string inter = "auto";             ///< what `hierarchical` uses between nodes; anything but hierarchical
  std::shared_ptr<const Codec> codec;     ///< made from codec_name if null
  NetworkConstants network;               ///< for `auto`; what is not given is measured
  int rank = -1;                          ///< of this rank among those that train, for codecs; -1: that of the communicator

  CollectiveOptions() = default;
  /// Keys algorithm, codec, chunk_bytes, inter; the codec's own options are in a child of its name, the constants in `network`.
  explicit CollectiveOptions(Section& section);
  /// The same with the codec of that name, which has its default options.
  [[nodiscard]] CollectiveOptions with_codec(const std::string& name) const;
};

/// One algorithm over the ranks of a communicator. It owns a duplicate of the communicator, so its messages meet nobody
/// else's; one thread drives it and all its works. All ranks end with the same bits. After an error it is of no more use.
class Collective {
 public:
  /// Collective. `options.codec` must be set; `make_collective` sees to that.
  Collective(Communicator& communicator, const CollectiveOptions& options);
  virtual ~Collective() = default;
  Collective(const Collective&) = delete;
  Collective& operator=(const Collective&) = delete;

  /// Collective. Zeroed memory in which buckets live at their best (64-byte aligned); any other memory works as well. All
  /// ranks ask for the same sizes in the same order, and let go of them in the same order, best after the collective: after an
  /// error its messages may still be on their way.
  [[nodiscard]] virtual Buffer allocate(std::size_t bytes);

  /// Collective. Prepares data := sum over ranks.
  Work& all_reduce(const Bucket& bucket) { return prepare(Operation::all_reduce, bucket); }
  /// Collective. Prepares block(rank) of data := its sum over ranks; the rest of data is left undefined.
  Work& reduce_scatter(const Bucket& bucket) { return prepare(Operation::reduce_scatter, bucket); }
  /// Collective. Prepares every block of data := its owner's.
  Work& all_gather(const Bucket& bucket) { return prepare(Operation::all_gather, bucket); }
  virtual Work& prepare(Operation operation, const Bucket& bucket);

  [[nodiscard]] Block block(int rank, std::size_t n) const noexcept { return block_of(rank, communicator_.size(), n); }

  /// Drives all works that have been started; never blocks. True if none is left.
  virtual bool advance();

  /// Records every bucket from its start to its end in a lane of this rank's profile, which the thread that drives this
  /// collective alone writes.
  virtual void trace_to(std::string_view lane);

  [[nodiscard]] const std::string& algorithm() const noexcept { return algorithm_; }
  /// The algorithm and, where `auto` chose, what and why: one line for people.
  [[nodiscard]] virtual std::string describe() const { return reason_.empty() ? algorithm_ : algorithm_ + " (" + reason_ + ")"; }
  [[nodiscard]] const CollectiveOptions& options() const noexcept { return options_; }
  [[nodiscard]] Communicator& communicator() noexcept { return communicator_; }

 protected:
  virtual std::unique_ptr<Work> make_work(Operation operation, const Bucket& bucket) = 0;
  /// True if works must run one after the other in the order of their start (the library matches calls by order).
  [[nodiscard]] virtual bool one_at_a_time() const noexcept { return false; }
  /// From now on waiting for one of the works of `part` drives all of this one, and lasts as long as this one allows.
  void adopt(Collective& part) noexcept { part.parent_ = this; }

 private:
  friend class Work;
  friend std::unique_ptr<Collective> make_collective(Communicator&, CollectiveOptions);
  [[nodiscard]] Collective& outermost() noexcept { return parent_ == nullptr ? *this : parent_->outermost(); }

  std::string algorithm_, reason_;
  Collective* parent_ = nullptr;
  CollectiveOptions options_;
  Communicator communicator_;
  std::vector<std::unique_ptr<Work>> works_;
  std::vector<Work*> active_;             // in the order of their start
  std::uint32_t started_ = 0;
  TraceLane* lane_ = nullptr;
  std::uint32_t bucket_name_ = 0, agreeing_name_ = 0;
};

/// How an algorithm enters: name → what it can and a function that makes it.
struct CollectiveType {
  std::string summary;
  std::function<std::unique_ptr<Collective>(Communicator&, const CollectiveOptions&)> make;
  bool thread_ranks = true;     ///< runs where ranks are threads
  bool several_nodes = true;    ///< runs where ranks are on several machines
  bool rank_order = false;      ///< sums every element in rank order
  bool lossy_codecs = false;    ///< sends through the codec; else only exact ones make sense
  bool node_memory = false;     ///< sums in memory that the ranks of a machine share: they can keep one copy of the parameters there
  bool error_grows = false;     ///< a lossy codec's error grows with the number of ranks: only used by name, with a warning
  /// Seconds that an all-reduce takes; null: `auto` does not know it, it is used by name only.
  std::function<double(const CostQuery&)> cost{};
};
template <>
inline constexpr std::string_view kKindOf<CollectiveType> = "collective";

/// The `make` of an algorithm that is all in its work class `W` (constructible as Work is).
template <std::derived_from<Work> W>
[[nodiscard]] std::unique_ptr<Collective> collective_of(Communicator& communicator, const CollectiveOptions& options) {
  class Of final : public Collective {
   public:
    using Collective::Collective;

   protected:
    std::unique_ptr<Work> make_work(Operation operation, const Bucket& bucket) override {
      return std::make_unique<W>(*this, operation, bucket);
    }
  };
  return std::make_unique<Of>(communicator, options);
}

/// The algorithm that sums in the memory which the ranks of a machine share: `wanted` if that is one, else the first there is.
/// Error not_found where none is registered.
[[nodiscard]] std::string node_memory_algorithm(const std::string& wanted);

/// Empty if `type` can serve this communicator with these options, else the reason why not.
[[nodiscard]] std::string why_not(const CollectiveType& type, const Communicator& communicator,
                                  const CollectiveOptions& options);

/// Seconds for an all-reduce of `bytes` and the name of the algorithm that takes them.
struct Estimate {
  double seconds = 0;
  std::string algorithm;
};
/// All algorithms with a cost that fit, the fastest first; those made for one node alone are before all others, where they
/// fit. Depends on nothing but its arguments.
[[nodiscard]] std::vector<Estimate> estimates(const Communicator& communicator, const CollectiveOptions& options,
                                              std::size_t bytes);

/// Collective. The algorithm that `options` names. For "auto" every bucket is served by the one that is the fastest for its size
/// by the cost model, with constants that are given or measured here (some ms, 0.2 s at most); all ranks choose alike.
/// Within one node "auto" takes an exact codec in place of a lossy one, which would cost more than it saves there.
/// Error not_found for an unknown name, failed_precondition with the reason for one that does not fit. The communicator is duplicated and
/// may go.
[[nodiscard]] std::unique_ptr<Collective> make_collective(Communicator& communicator, CollectiveOptions options);

}  // namespace cohort
