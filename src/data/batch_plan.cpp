#include <algorithm>
#include <limits>

#include "cohort/base/error.hpp"
#include "cohort/base/random.hpp"
#include "cohort/data/pipeline.hpp"

namespace cohort {

AugmentOptions::AugmentOptions(Section& section) {
  section.bind("field", field, "the image field that is changed");
  section.bind("crop_padding", crop_padding, "pad by this many pixels on each side, then cut the old size out at random",
               between(0, 65536));
  section.bind("flip", flip, "mirror left to right, every other time");
  section.bind("fill", fill, "value of the padded pixels, after normalisation", between(-1e38, 1e38));
}

PipelineOptions::PipelineOptions(Section& section) {
  constexpr double kMost = std::numeric_limits<std::int32_t>::max();
  section.bind("batch", batch, "samples per rank and step", between(1, kMost));
  section.bind("global_batch", global_batch, "samples of all ranks per step; 0: batch times ranks", between(0, kMost));
  section.bind("rank_batches", rank_batches, "samples per step of each rank, where they differ; empty: they do not",
               between(0, kMost));
  section.bind("shuffle", shuffle, "another order every epoch");
  section.bind("seed", seed, "of order and augmentation");
  section.bind("drop_last", drop_last, "leave out the last batch of an epoch where it is short");
  section.bind("threads", threads, "that prepare batches ahead; 0: none, each is prepared when it is asked for",
               between(0, 256));
  section.bind("prefetch", prefetch, "batches prepared ahead", between(1, 4096));
  augment = AugmentOptions(section.child("augment"));
}

SampleOrder::SampleOrder(std::int64_t samples, std::uint64_t seed, bool shuffle)
    : samples_(static_cast<std::uint32_t>(samples)), seed_(seed), shuffle_(shuffle) {
  check(samples >= 0 && samples <= std::numeric_limits<std::uint32_t>::max(), Code::invalid_argument,
        "a data set has below 2^32 samples");
}

const EpochOrder& SampleOrder::of_epoch(std::int64_t epoch) {
  if (!shuffle_ || epoch == epoch_) return order_;
  // The streams of the epochs lie far from those that are named by other parts.
  const std::uint64_t stream = stream_of("sample order") + static_cast<std::uint64_t>(epoch);
  if (samples_ > kMostListed) order_ = EpochOrder(KeyedPermutation(samples_, seed_, stream));
  else order_ = EpochOrder(random_permutation(samples_, seed_, stream));
  epoch_ = epoch;                      // last: there may be no memory for the list
  return order_;
}

BatchPlan::BatchPlan(const PipelineOptions& options, int ranks) : ranks_(ranks), global_batch_(options.global_batch) {
  check(ranks >= 1, Code::invalid_argument, "a batch for no rank");
  if (options.rank_batches.empty()) {
    if (global_batch_ == 0) global_batch_ = options.batch * ranks;
  } else {
    if (options.rank_batches.size() != static_cast<std::size_t>(ranks)) {
      fail(Code::invalid_argument, "data.rank_batches has " + std::to_string(options.rank_batches.size()) + " entries for " +
                                       std::to_string(ranks) + " ranks");
    }
    check(global_batch_ == 0, Code::invalid_argument, "data.global_batch and data.rank_batches contradict each other: give one");
    for (const std::int64_t batch : options.rank_batches) block_ends_.push_back(global_batch_ += batch);
  }
  check(global_batch_ >= 1, Code::invalid_argument, "data.global_batch: a batch of no samples");
  check(global_batch_ <= std::numeric_limits<std::int32_t>::max(), Code::invalid_argument,
        "data.global_batch: a batch of all ranks has below 2^31 samples, this one " + std::to_string(global_batch_));
}

Share BatchPlan::share(int rank, std::int64_t global_samples) const {
  if (block_ends_.empty()) {
    const std::int64_t rest = global_samples - rank;
    return {rank, ranks_, rest <= 0 ? 0 : (rest + ranks_ - 1) / ranks_};
  }
  const auto r = static_cast<std::size_t>(rank);
  const std::int64_t begin = (r == 0 ? 0 : block_ends_[r - 1]) * global_samples / global_batch_;
  const std::int64_t end = block_ends_[r] * global_samples / global_batch_;
  return {begin, 1, end - begin};   // never more than of a whole batch
}

const Tensor& SampleBatch::operator[](std::string_view name) const {
  const auto at = std::find_if(fields.begin(), fields.end(), [&](const NamedTensor& field) { return field.name == name; });
  if (at != fields.end()) return at->tensor;
  std::vector<std::string> known;
  for (const NamedTensor& field : fields) known.push_back(field.name);
  fail(Code::not_found, unknown_name_text("field of the batch", name, known));
}

}  // namespace cohort
