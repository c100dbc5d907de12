// Codecs that are not exact in the exchange of gradients: when they are used, what they lose, what is kept of that.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "cohort/base/random.hpp"
#include "cohort/exchange/exchange.hpp"

namespace cohort {

std::string codec_note(const ExchangeOptions& asked, const Parameters& parameters, std::int64_t steps, std::string why) {
  const CollectiveOptions& wish = asked.collective;
  if (codec_named(wish.codec_name)->exact()) return {};
  if (why.empty() && steps <= asked.dense_steps)
    why = fmt::format("all {} steps are among the first {} that go in float32 (exchange.dense_steps)", steps, asked.dense_steps);
  if (why.empty() && parameters.first_small() == 0)
    why = fmt::format("all tensors are small and go in {} (exchange.small_elements = {}, exchange.small_codec)", asked.small_codec_name, asked.small_elements);
  return why.empty() ? why : fmt::format("exchange.codec = \"{}\" has no effect: {}", wish.codec_name, why);
}

std::string ResidualAlarm::observe(double ratio) {
  if (ratio <= last_) {
    growths_ = 0;
    said_ = said_ && ratio > 1;
  } else if (growths_++ == 0) {
    before_growth_ = last_;
  }
  last_ = ratio;
  if (said_) return {};
  if (ratio > 1) {
    said_ = true;
    return fmt::format("the residual is {:.3g} times as large as the gradient", ratio);
  }
  if (growths_ < kGrowths || ratio <= 2 * before_growth_) return {};
  said_ = true;
  return fmt::format("the residual keeps growing, from {:.3g} to {:.3g} of the gradient", before_growth_, ratio);
}

void GradientExchange::keep_residuals(const ExchangeOptions& options) {
  for (Bucket& bucket : buckets_) {
    const Codec& codec = codec_of(bucket);
    const bool feeds = options.error_feedback == "auto" ? codec.wants_feedback() : options.error_feedback == "on";
    if (!feeds || codec.exact()) continue;
    bucket.residual.assign(static_cast<std::size_t>(bucket.n), 0.f);
    bucket.residual_before = bucket.residual;
  }
  norms_.resize(buckets_.size());
  alarms_.resize(buckets_.size());
}

std::int64_t GradientExchange::residual_bytes() const noexcept {
  std::size_t n = 0;
  for (const Bucket& bucket : buckets_) n += bucket.residual.size() + bucket.residual_before.size();
  return static_cast<std::int64_t>(n * sizeof(float));
}

const Codec& GradientExchange::codec_of(const Bucket& bucket) const {
  return bucket.codec != nullptr ? *bucket.codec : *(between_ ? between_ : collective_)->options().codec;
}

std::string GradientExchange::codec_note(const ExchangeOptions& asked, const Communicator& ranks, std::int64_t steps) const {
  std::string why;
  if (ranks.size() == 1) why = "one rank sends no gradients";
  else if (!lossy_ && ranks.nodes().nodes() == 1) why = "all ranks are on one machine, where gradients go in float32, which is faster";
  else if (!lossy_) why = "this updater sends no gradients, and what it sends goes in float32";
  return cohort::codec_note(asked, parameters_, steps, std::move(why));
}

Block GradientExchange::coded_part(const Bucket& bucket) const {
  const auto n = static_cast<std::size_t>(bucket.n);
  return group_ == nullptr ? Block{0, n} : collective_->block(group_->node().rank(), n);
}

Work* GradientExchange::make_way(std::size_t b, Way way) {
  Bucket& bucket = buckets_[b];
  Work*& work = bucket.ways[way];
  if (work != nullptr) return work;
  const Block part = coded_part(bucket);
  cohort::Bucket what{.id = static_cast<int>(b), .data = bucket.data() + part.begin, .n = part.size,
                      .codec = way == kDense ? dense_codec_.get() : bucket.codec};
  if (way == kCoded && !bucket.residual.empty()) what.residual = bucket.residual.data() + part.begin;
  Collective& by = between_ ? *between_ : *collective_;
  work = &by.prepare(setting_.blocks ? Operation::reduce_scatter : Operation::all_reduce, what);
  return work;
}

/// How this step's sums travel. All ranks decide alike, so works may be made here, the first time; in parts when a bucket gets
/// its buffer.
void GradientExchange::take(Way way) {
  if (group_ != nullptr && !between_) return;
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    Bucket& bucket = buckets_[b];
    (between_ ? bucket.between : bucket.work) = setting_.parts ? bucket.ways[way] : make_way(b, way);
  }
}

/// Encodes a copy, some blocks at a time, so that it works for every collective, with and without feedback.
void GradientExchange::observe(std::size_t b) {
  if (!observes_ || !coded_) return;
  constexpr std::size_t kStrip = 16 * kBlockUnit;
  const Bucket& bucket = buckets_[b];
  const Codec& codec = codec_of(bucket);
  std::vector<float> wanted(kStrip), decoded(kStrip);
  std::vector<std::byte> wire(codec.wire_bytes(kStrip));
  const Block part = coded_part(bucket);
  Norms& norms = norms_[b] = {};
  for (std::size_t begin = part.begin; begin < part.end(); begin += kStrip) {
    const std::size_t n = std::min(kStrip, part.end() - begin);
    for (std::size_t i = 0; i < n; ++i) {
      const double given = bucket.data()[begin + i], late = bucket.residual.empty() ? 0.f : bucket.residual[begin + i];
      wanted[i] = static_cast<float>(given + late);
      norms.given += given * given;
      norms.residual += late * late;
    }
    codec.encode(wanted.data(), n, wire.data(), nullptr, {.step = step_, .bucket = static_cast<int>(b), .offset = begin});
    codec.decode(wire.data(), n, decoded.data(), Accumulate::assign, {.step = step_, .bucket = static_cast<int>(b), .offset = begin});
    for (std::size_t i = 0; i < n; ++i) {
      const double v = wanted[i], lost = v - static_cast<double>(decoded[i]);
      norms.wanted += v * v;
      norms.lost += lost * lost;
    }
  }
}

void GradientExchange::report() {
  observes_ = false;
  if (!coded_) return;
  constexpr std::size_t kNumbers = 6;
  std::vector<double> sums;
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    const Traffic sent = (between_ ? buckets_[b].between : buckets_[b].work)->sent();
    const Norms& n = norms_[b];
    sums.insert(sums.end(), {static_cast<double>(sent.bytes), static_cast<double>(sent.elements), n.wanted, n.lost, n.given, n.residual});
  }
  Communicator& all = (words_collective_ ? words_collective_ : collective_)->communicator();
  all.all_reduce(std::span<double>(sums), Reduce::sum);
  const auto ratio = [](double a, double b) { return b > 0 ? a / b : 0.0; };
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    const double* x = sums.data() + b * kNumbers;
    reports_.push_back({.bucket = static_cast<int>(b), .bytes = x[0], .ratio = ratio(x[0], x[1] * sizeof(float)),
                        .relative_error = std::sqrt(ratio(x[3], x[2])), .residual_ratio = std::sqrt(ratio(x[5], x[4]))});
    if (!std::isfinite(x[4])) continue;      // of a step that is skipped: its residual stays
    const std::string alarm = alarms_[b].observe(reports_.back().residual_ratio);
    const Context& context = all.context();
    if (alarm.empty() || !all.is_root()) continue;
    context.log.warning(fmt::format("step {}, bucket {}: {}; what is late is applied at a wrong time: try a smaller learning rate, "
                                    "another exchange.codec or exchange.error_feedback = \"off\"", step_, b, alarm));
  }
}

void GradientExchange::take_back() {
  if (coded_) zero_gradients();      // where one number of a coded block is none, none is, and nobody writes what pads rows
  if (!coded_ && !flushed_) return;
  for (Bucket& bucket : buckets_) bucket.residual = bucket.residual_before;
  flushes_ = flushed_;
}

std::int64_t GradientExchange::residual_layout() const {
  std::string text;
  if (group_ == nullptr) return 0;                       // all elements of all parameters
  for (const GradientRange& mine : owned_) text += fmt::format("{} {},", mine.begin, mine.n);
  return static_cast<std::int64_t>(stream_of(text));
}

Tensor GradientExchange::residual_of(std::size_t p) const {
  const Parameter& parameter = parameters_.trained()[p];
  const Bucket& bucket = buckets_[bucket_of_[p]];
  if (bucket.residual.empty()) return Tensor::zeros(parameter.shape);
  auto* const residual = const_cast<float*>(bucket.residual.data());    // a tensor knows no const: who saves only reads
  return {host(), DType::float32, parameter.shape, residual + (parameter.offset - bucket.begin), nullptr, parameter.ld};
}

void GradientExchange::save(StateWriter& writer) const {
  for (std::size_t p = 0; p < bucket_of_.size(); ++p) writer.tensor("residuals/" + parameters_.trained()[p].name, residual_of(p));
}

void GradientExchange::load(StateReader& reader) {
  for (std::size_t p = 0; p < bucket_of_.size(); ++p) reader.tensor("residuals/" + parameters_.trained()[p].name, residual_of(p));
}

}  // namespace cohort
