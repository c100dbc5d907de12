#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "cohort/data/pipeline.hpp"

namespace cohort::testing {

/// Samples that say who they are: id = the sample's number, image = a [4, 5, 2] ramp that starts at 1000 times it. Can be
/// slow, and can fail at one sample.
class FakeReader final : public Reader {
 public:
  explicit FakeReader(std::int64_t samples) : samples_(samples) {}
  [[nodiscard]] std::int64_t size() const override { return samples_; }
  [[nodiscard]] const std::vector<Field>& fields() const override { return fields_; }
  void read(std::span<const std::uint32_t> samples, std::span<void* const> buffers) const override {
    const int now = ++at_once;
    for (int most = most_at_once; most < now && !most_at_once.compare_exchange_weak(most, now);) {}
    if (delay_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms.load()));
    --at_once;
    ++reads;
    auto* image = static_cast<float*>(buffers[0]);
    for (std::size_t i = 0; i < samples.size(); ++i) {
      if (samples[i] == fails_at) fail(Code::data_loss, "set.bin: sample " + std::to_string(samples[i]) + " is damaged");
      static_cast<std::int64_t*>(buffers[1])[i] = samples[i];
      for (std::size_t j = 0; j < 40; ++j) *image++ = 1000.f * static_cast<float>(samples[i]) + static_cast<float>(j);
    }
  }

  mutable std::atomic<int> reads = 0, at_once = 0, most_at_once = 0;
  std::atomic<int> delay_ms = 0;
  std::atomic<std::uint32_t> fails_at = 0xffffffffu;

 private:
  std::int64_t samples_;
  std::vector<Field> fields_ = {{"image", DType::float32, {4, 5, 2}}, {"id", DType::int64, {}}};
};

inline PipelineOptions options_with(std::int64_t batch, int threads = 0) {
  PipelineOptions options;
  options.batch = batch;
  options.threads = threads;
  options.prefetch = 3;
  options.seed = 11;
  return options;
}

/// What a batch held, kept after its memory is used again.
struct Seen {
  std::int64_t epoch, step, samples, global_samples, offset, stride;
  bool last;
  std::vector<std::int64_t> ids;
  std::vector<float> images;
  friend bool operator==(const Seen&, const Seen&) = default;
};
inline Seen seen(const SampleBatch& batch) {
  const auto ids = batch["id"].to_vector<std::int64_t>();
  check(std::equal(ids.begin(), ids.end(), batch.indices.begin(), batch.indices.end()), Code::internal,
        "indices are not the ids");
  return {batch.epoch, batch.step_in_epoch, batch.samples, batch.global_samples, batch.row_offset, batch.row_stride,
          batch.last_in_epoch, ids, batch["image"].to_vector<float>()};
}
inline std::vector<Seen> take(BatchPipeline& pipeline, int batches) {
  std::vector<Seen> result;
  for (int i = 0; i < batches; ++i) result.push_back(seen(*pipeline.next()));
  return result;
}

}  // namespace cohort::testing
