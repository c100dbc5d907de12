#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cohort/base/keyed_permutation.hpp"
#include "cohort/base/options.hpp"
#include "cohort/data/reader.hpp"
#include "cohort/tensor/tensor.hpp"

namespace cohort {

/// Random changes to one image field [height, width, channels] of float32, drawn from (seed, epoch, sample) alone and so the
/// same on any number of ranks and threads.
struct AugmentOptions {
  std::string field = "image";
  int crop_padding = 0;          ///< pad by this many pixels on each side, then cut the old size out at a random place
  bool flip = false;             ///< mirror left to right, every other time
  double fill = 0;               ///< value of the padded pixels, after normalisation

  AugmentOptions() = default;
  explicit AugmentOptions(Section& section);
  [[nodiscard]] bool any() const noexcept { return crop_padding > 0 || flip; }
};

struct PipelineOptions {
  std::int64_t batch = 64;                       ///< samples per rank and step
  std::int64_t global_batch = 0;                 ///< samples of all ranks per step; 0: batch times ranks
  std::vector<std::int64_t> rank_batches;   ///< samples per step of each rank, where they shall differ; empty: they do not
  bool shuffle = true;
  std::uint64_t seed = 1;
  bool drop_last = false;                        ///< leave out the last batch of an epoch where it is short
  int threads = 1;                               ///< that prepare batches ahead; 0: the caller prepares each when it asks
  int prefetch = 4;                              ///< batches prepared ahead
  AugmentOptions augment;

  PipelineOptions() = default;
  explicit PipelineOptions(Section& section);
};

/// In which order one epoch visits the samples: 0 … samples-1, each once. Copies are cheap and share what they need.
class EpochOrder {
 public:
  /// As they are stored.
  EpochOrder() = default;
  explicit EpochOrder(std::vector<std::uint32_t> list)
      : list_(std::make_shared<const std::vector<std::uint32_t>>(std::move(list))) {}
  explicit EpochOrder(const KeyedPermutation& keyed) : keyed_(keyed) {}
  [[nodiscard]] std::uint32_t operator[](std::uint32_t place) const {
    if (keyed_) return (*keyed_)[place];
    return list_ == nullptr ? place : (*list_)[place];
  }

 private:
  std::shared_ptr<const std::vector<std::uint32_t>> list_;
  std::optional<KeyedPermutation> keyed_;
};

/// The orders of all epochs: shuffled, a permutation that depends on (seed, epoch) only. Up to kMostListed samples it is a list,
/// made when the epoch begins; of more, each place is computed, so that a set takes no memory for its order.
class SampleOrder {
 public:
  static constexpr std::int64_t kMostListed = 1 << 24;
  SampleOrder(std::int64_t samples, std::uint64_t seed, bool shuffle);
  [[nodiscard]] const EpochOrder& of_epoch(std::int64_t epoch);       ///< valid until the next call; one thread at a time

 private:
  std::uint32_t samples_;
  std::uint64_t seed_;
  bool shuffle_;
  std::int64_t epoch_ = -1;                                           ///< of order_
  EpochOrder order_;
};

/// Which rows of a global batch one rank has: local row i is global row offset + i * stride.
struct Share {
  std::int64_t offset = 0, stride = 1, samples = 0;
};

/// How each step's global batch, a slice of the epoch's order, is dealt out to the ranks. Rank r of p takes rows r, r + p,
/// r + 2p, … (shares differ by at most one sample, and one rank with batch N·b sees the batch of N ranks with b); with
/// `rank_batches` it takes a block in proportion to its own size.
class BatchPlan {
 public:
  /// Error invalid_argument if the options contradict each other or the number of ranks.
  BatchPlan(const PipelineOptions& options, int ranks);
  [[nodiscard]] std::int64_t global_batch() const noexcept { return global_batch_; }
  [[nodiscard]] Share share(int rank, std::int64_t global_samples) const;

 private:
  int ranks_;
  std::int64_t global_batch_;
  std::vector<std::int64_t> block_ends_;                         ///< of rank_batches; empty: dealt out in turn
};

/// Where a run is in its data: the next sample in the order of an epoch. It says nothing of ranks or batch sizes, so that a
/// run may go on with others.
struct Position {
  std::int64_t epoch = 0;
  std::int64_t sample = 0;
  friend bool operator==(const Position&, const Position&) = default;
};

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

/// One rank's part of one step's batch, in host memory.
struct SampleBatch {
  std::int64_t epoch = 0;
  std::int64_t step_in_epoch = 0;
  bool last_in_epoch = false;
  std::int64_t samples = 0;                        ///< of this rank; 0 where a short batch does not reach it
  std::int64_t global_samples = 0;                 ///< of all ranks: the weight of this rank is samples / global_samples
  std::int64_t row_offset = 0, row_stride = 1;     ///< local row i is global row row_offset + i * row_stride
  std::span<const std::uint32_t> indices;          ///< the sample in each local row
  std::vector<NamedTensor> fields;                 ///< first dimension: samples

  /// Error not_found with the names there are.
  [[nodiscard]] const Tensor& operator[](std::string_view name) const;
};

enum class BatchUse {
  training,   ///< epoch after epoch without end, shuffled and augmented as the options say
  evaluation,   ///< once over the whole set in order, not augmented, nothing left out; as many steps on every rank
};

/// One rank's batches, in order, prepared ahead by threads and in memory that is used again: after the first round nothing
/// is allocated but each epoch's order, where that is a list. All methods belong to one thread. Destruction stops the threads, at the latest when
/// each has finished the batch it is at.
class BatchPipeline {
 public:
  /// Error invalid_argument: a data set without samples, or (dropping short batches) without a full batch; options that
  /// contradict each other; an augmented field that is no image.
  BatchPipeline(std::shared_ptr<const Reader> reader, const PipelineOptions& options, int rank, int ranks,
                BatchUse use = BatchUse::training);
  BatchPipeline(const BatchPipeline&) = delete;
  BatchPipeline& operator=(const BatchPipeline&) = delete;
  ~BatchPipeline();

  /// The next batch, valid until the next call of `next` or `seek`; null at the end of an evaluation. An error of the
  /// reader is thrown here, in the place of its batch, and again by every later call until `seek`.
  [[nodiscard]] const SampleBatch* next();

  [[nodiscard]] Position position() const noexcept;      ///< of the batch that `next` would give
  void seek(Position position);                           ///< Error out_of_range
  void rewind() { seek({}); }

  [[nodiscard]] std::int64_t global_batch() const noexcept;
  [[nodiscard]] std::int64_t steps_per_epoch() const noexcept;
  [[nodiscard]] const Reader& reader() const noexcept;
  [[nodiscard]] std::int64_t batch_bytes() const noexcept;      ///< memory of all batches that are prepared ahead

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cohort
