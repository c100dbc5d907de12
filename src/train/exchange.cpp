#include "cohort/train/exchange.hpp"

#include <algorithm>
#include <cstring>

namespace cohort {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;
constexpr double kBrief = 2e-6;          // seconds: a poll that found nothing to do stays out of the trace

/// Σ x² in eight lanes, so that it vectorises without leave to reorder sums.
double squares(const float* x, std::int64_t n) {
  constexpr std::int64_t kLanes = 8;
  std::array<double, kLanes> lanes{};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::int64_t j = 0; j < kLanes; ++j) {
      const double value = x[i + j];
      lanes[static_cast<std::size_t>(j)] += value * value;
    }
  }
  double sum = 0;
  for (; i < n; ++i) sum += static_cast<double>(x[i]) * x[i];
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

ExchangeOptions::ExchangeOptions(Section& section) : collective(section) {
  section.bind("rank_order", collective.rank_order, "sum every element in rank order, whatever the bucket: collectives that cannot are refused");
  section.bind("first_bucket_mib", first_bucket_mib, "size of the first bucket, small so that communication starts early (MiB)", above(0));
  section.bind("bucket_mib", bucket_mib, "size of every other bucket (MiB)", above(0));
}

GradientExchange::GradientExchange(Communicator& communicator, const Parameters& parameters, Device& device,
                                   const ExchangeOptions& options)
    : parameters_(parameters), device_(device), profile_(*communicator.context().profile), collective_(make_collective(communicator, options.collective)) {
  make_buckets(options);
  collective_->trace_to("exchange");
  const bool staged = !device_.info().host_accessible;
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    Bucket& bucket = buckets_[b];
    bucket.memory = collective_->allocate(static_cast<std::size_t>(bucket.n) * sizeof(float));
    if (staged) {
      bucket.on_device = Tensor(device_, DType::float32, {bucket.n});
      bucket.on_device.copy_from(Tensor::zeros({bucket.n}));
    }
    bucket.work = &collective_->all_reduce({.id = static_cast<int>(b), .data = bucket.data(), .n = static_cast<std::size_t>(bucket.n)});
  }
}

void GradientExchange::make_buckets(const ExchangeOptions& options) {
  const auto limit_of = [&](std::size_t bucket) {
    return static_cast<std::int64_t>((bucket == 0 ? options.first_bucket_mib : options.bucket_mib) * kMiB / sizeof(float));
  };
  const auto all = parameters_.trained();
  for (std::size_t p = 0; p < all.size(); ++p) {
    const std::int64_t end = p + 1 < all.size() ? all[p + 1].offset : parameters_.flat_size();
    if (buckets_.empty() || buckets_.back().n + end - all[p].offset > limit_of(buckets_.size() - 1)) {
      if (buckets_.empty() || buckets_.back().n > 0) buckets_.push_back({.first = p, .last = p, .begin = all[p].offset});
    }
    Bucket& bucket = buckets_.back();
    bucket.last = p + 1;
    bucket.n = end - bucket.begin;
    bucket_of_.push_back(buckets_.size() - 1);
  }
  if (buckets_.empty()) buckets_.emplace_back();      // nothing to train, still words to exchange
  buckets_.back().n += kWords;
}

std::int64_t GradientExchange::bytes() const noexcept {
  std::int64_t n = 0;
  for (const Bucket& bucket : buckets_) n += bucket.n;
  return n * static_cast<std::int64_t>(sizeof(float));
}

float* GradientExchange::host_gradient(std::size_t parameter) const {
  const Bucket& bucket = buckets_[bucket_of_[parameter]];
  return bucket.data() + (parameters_.trained()[parameter].offset - bucket.begin);
}

Tensor GradientExchange::gradient(std::size_t parameter) const {
  const Bucket& bucket = buckets_[bucket_of_[parameter]];
  const Parameter& p = parameters_.trained()[parameter];
  if (bucket.on_device.empty()) return {device_, DType::float32, p.shape, host_gradient(parameter), bucket.memory.memory, p.ld};
  return {device_, DType::float32, p.shape, bucket.on_device.data<float>() + (p.offset - bucket.begin), bucket.on_device.owner(), p.ld};
}

void GradientExchange::begin(std::int64_t step) {
  step_ = step;
  collective_->communicator().rank_activity()->arrive({.step = step});
  launched_ = 0;
  for (Bucket& bucket : buckets_) bucket.pending = bucket.last - bucket.first;
}

void GradientExchange::ready(std::size_t parameter) {
  Bucket& bucket = buckets_[bucket_of_[parameter]];
  check(bucket.pending > 0, Code::internal, "the gradient of '" + parameters_.trained()[parameter].name + "' is ready twice in one step");
  --bucket.pending;
  launch_full_buckets(buckets_.size() - 1);           // the last one waits for the words
}

void GradientExchange::launch_full_buckets(std::size_t end) {
  for (; launched_ < end && buckets_[launched_].pending == 0; ++launched_) launch(buckets_[launched_]);
}

void GradientExchange::launch(Bucket& bucket) {
  const PhaseScope communicating(profile_, Phase::exchange, kBrief);
  if (!bucket.on_device.empty()) {
    const auto words = &bucket == &buckets_.back() ? kWords : 0;
    device_.stream().copy(bucket.data(), bucket.on_device.raw(), (static_cast<std::size_t>(bucket.n) - words) * sizeof(float));
    device_.stream().synchronize();
  }
  bucket.work->start(step_);
}

void GradientExchange::poll() {
  if (launched_ == 0) return;
  const PhaseScope communicating(profile_, Phase::exchange, kBrief);
  collective_->advance();
}

void GradientExchange::finish(std::span<const float> words) {
  Bucket& last = buckets_.back();
  float* to = last.data() + last.n - kWords;
  std::fill_n(to, kWords, 0.f);
  std::copy_n(words.begin(), std::min(words.size(), kWords), to);
  launch_full_buckets(buckets_.size());
  check(launched_ == buckets_.size(), Code::internal, "a step ends before all gradients are there");
  const PhaseScope communicating(profile_, Phase::exchange);
  {
    const PhaseScope waiting(profile_, Phase::slowest);
    last.work->wait_for_all();
  }
  for (Bucket& bucket : buckets_) {
    bucket.work->wait();
    if (bucket.on_device.empty()) continue;
    device_.stream().copy(bucket.on_device.raw(), bucket.data(), static_cast<std::size_t>(bucket.n) * sizeof(float));
  }
  if (!last.on_device.empty()) device_.stream().synchronize();
}

void GradientExchange::zero_gradients() {
  for (const Bucket& bucket : buckets_) {
    if (bucket.on_device.empty()) std::fill_n(bucket.data(), bucket.n, 0.f);
    else bucket.on_device.copy_from(Tensor::zeros({bucket.n}));
  }
}

Tensor GradientExchange::accumulated(std::size_t parameter) {
  accumulated_.resize(static_cast<std::size_t>(parameters_.flat_size()));
  const Parameter& p = parameters_.trained()[parameter];
  return {host(), DType::float32, p.shape, accumulated_.data() + p.offset, nullptr, p.ld};
}

void GradientExchange::accumulate(std::size_t parameter) {
  const Tensor sum = accumulated(parameter);
  Tensor mine = gradient(parameter);
  if (!mine.device().info().host_accessible) {
    const Tensor copy(host(), DType::float32, mine.shape(), mine.ld());
    copy.copy_from(mine);
    mine = copy;
  }
  for (std::int64_t row = 0; row < sum.rows(); ++row) {
    const float* x = mine.data<float>() + row * mine.ld();
    float* y = sum.data<float>() + row * sum.ld();
    for (std::int64_t i = 0; i < sum.columns(); ++i) y[i] += x[i];
  }
}

void GradientExchange::add_accumulated(std::size_t parameter) {
  if (accumulated_.empty()) return;
  accumulate(parameter);
  gradient(parameter).copy_from(accumulated(parameter));
}

void GradientExchange::clear_accumulated() { std::fill(accumulated_.begin(), accumulated_.end(), 0.f); }

float GradientExchange::word(std::size_t i) const {
  const Bucket& last = buckets_.back();
  return last.data()[last.n - static_cast<std::int64_t>(kWords) + static_cast<std::int64_t>(i)];
}

double GradientExchange::sum_of_squares() const {
  double sum = 0;
  for (std::size_t p = 0; p < bucket_of_.size(); ++p) sum += squares(host_gradient(p), parameters_.trained()[p].n);
  return sum;
}

}  // namespace cohort
