#include "cohort/train/exchange.hpp"

#include <algorithm>
#include <numeric>

#include "train/driver_thread.hpp"

namespace cohort {
namespace {

constexpr double kMiB = 1024.0 * 1024.0;
constexpr double kBrief = 2e-6;          // seconds: a poll that found nothing to do stays out of the trace

/// Σ x² over a unit of the flat space, in lanes, so that it vectorises without leave to reorder sums.
template <class Float, std::int64_t lanes>
double squares(const float* x) {
  static_assert(Parameters::kUnit % lanes == 0);
  std::array<Float, lanes> sums{};
  for (std::int64_t i = 0; i < Parameters::kUnit; i += lanes) {
    for (std::int64_t j = 0; j < lanes; ++j) {
      const Float value = x[i + j];
      sums[static_cast<std::size_t>(j)] += value * value;
    }
  }
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

/// The few squares of a lane add up in float, nearly twice as fast, unless they leave its range.
double squares_of_unit(const float* x) {
  constexpr double kLeast = 1e-30, kMost = 1e37;
  const double fast = squares<float, 16>(x);
  return fast > kLeast && fast < kMost ? fast : squares<double, 8>(x);
}

}  // namespace

ExchangeOptions::ExchangeOptions(Section& section) : collective(section) {
  section.bind("rank_order", collective.rank_order, "sum every element in rank order, whatever the bucket: collectives that cannot are refused");
  section.bind("first_bucket_mib", first_bucket_mib, "size of the first bucket, small so that communication starts early (MiB)", above(0));
  section.bind("bucket_mib", bucket_mib, "size of every other bucket (MiB)", above(0));
  section.bind("shared_parameters", shared_parameters, "ranks of a machine keep one copy of the parameters and update a share each, where they can");
  section.bind("thread", thread, "drive the exchange from a thread of its own; auto: where the rank has a core beside those of its kernels",
               one_of({"auto", "on", "off"}));
}

GradientExchange::GradientExchange(Communicator& communicator, const Parameters& parameters, Device& device,
                                   const ExchangeOptions& options, NodeGroup* group, bool own_thread)
    : parameters_(parameters), device_(device), profile_(*communicator.context().profile), group_(group) {
  CollectiveOptions within = options.collective;
  if (group_ != nullptr) within.algorithm = "shared_memory";
  collective_ = make_collective(group_ != nullptr ? group_->node() : communicator, within);
  collective_->trace_to("exchange");
  if (group_ != nullptr && group_->between() != nullptr) between_ = make_collective(*group_->between(), options.collective);
  make_buckets(options);
  pending_ = std::vector<std::atomic<std::size_t>>(buckets_.size());
  for (std::size_t b = 0; b < buckets_.size(); ++b) prepare(buckets_[b], b);
  if (group_ != nullptr) prepare_words(communicator, options.collective);
  const std::size_t bytes = static_cast<std::size_t>(parameters_.flat_size() / Parameters::kUnit) * sizeof(double);
  squares_ = group_ != nullptr ? group_->allocate(bytes) : host().allocate(bytes);
  if (own_thread && communicator.size() > 1) {
    check(device_.info().host_accessible, Code::failed_precondition,
          "exchange.thread = \"on\": gradients of " + device_.info().name() + " pass through host memory on the main thread");
    thread_ = std::make_unique<DriverThread>([this] { return drive(); });
  }
}

GradientExchange::~GradientExchange() = default;

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
  if (group_ == nullptr) buckets_.back().n += kWords;
}

void GradientExchange::prepare(Bucket& bucket, std::size_t id) {
  bucket.memory = collective_->allocate(static_cast<std::size_t>(bucket.n) * sizeof(float));
  if (!device_.info().host_accessible) {
    bucket.on_device = Tensor(device_, DType::float32, {bucket.n});
    bucket.on_device.copy_from(Tensor::zeros({bucket.n}));
  }
  cohort::Bucket whole{.id = static_cast<int>(id), .data = bucket.data(), .n = static_cast<std::size_t>(bucket.n)};
  if (group_ == nullptr) {
    bucket.work = &collective_->all_reduce(whole);
    const bool has_words = &bucket == &buckets_.back();
    float* gradients = bucket.on_device.empty() ? bucket.data() : bucket.on_device.data<float>();
    owned_.push_back({.begin = bucket.begin, .n = bucket.n - (has_words ? std::int64_t{kWords} : 0), .gradient = gradients});
    return;
  }
  bucket.work = &collective_->reduce_scatter(whole);
  const Block mine = collective_->block(group_->node().rank(), whole.n);
  owned_.push_back({.begin = bucket.begin + static_cast<std::int64_t>(mine.begin), .n = static_cast<std::int64_t>(mine.size),
                    .gradient = bucket.data() + mine.begin});
  if (between_) bucket.between = &between_->all_reduce({.id = whole.id, .data = bucket.data() + mine.begin, .n = mine.size});
}

void GradientExchange::prepare_words(Communicator& communicator, const CollectiveOptions& options) {
  CollectiveOptions exact = options;
  exact.algorithm = "auto";
  exact.codec_name = "fp32";
  exact.codec = nullptr;
  words_collective_ = make_collective(communicator, exact);
  words_work_ = &words_collective_->all_reduce({.id = static_cast<int>(buckets_.size()), .data = words_.data(), .n = kWords});
}

std::int64_t GradientExchange::bytes() const noexcept {
  std::int64_t n = 0;
  for (const Bucket& bucket : buckets_) n += bucket.n;
  return n * static_cast<std::int64_t>(sizeof(float));
}

std::string GradientExchange::text() const {
  std::string text = std::to_string(buckets_.size()) + (buckets_.size() == 1 ? " bucket over " : " buckets over ") + collective_->describe();
  if (between_) text += " and, between machines, " + between_->describe();
  if (group_ != nullptr) text += ", one copy of the parameters per machine";
  if (thread_) text += ", from a thread of its own";
  return text;
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
  launched_ = launched_between_ = 0;
  all_there_.store(false, std::memory_order_relaxed);
  for (std::size_t b = 0; b < buckets_.size(); ++b) pending_[b].store(buckets_[b].last - buckets_[b].first, std::memory_order_relaxed);
  pending_.back().fetch_add(1, std::memory_order_relaxed);      // waits for the end of the step, and for the words
  if (thread_) thread_->start();
}

void GradientExchange::ready(std::size_t parameter) {
  const std::size_t b = bucket_of_[parameter];
  const std::size_t left = pending_[b].fetch_sub(1, std::memory_order_acq_rel);
  const std::size_t least = b + 1 == buckets_.size() ? 2 : 1;
  check(left >= least, Code::internal, "the gradient of '" + parameters_.trained()[parameter].name + "' is ready twice in one step");
  if (left == 1) poll();
}

void GradientExchange::poll() {
  if (thread_ || (launched_ == 0 && pending_[0].load(std::memory_order_relaxed) > 0)) return;
  const PhaseScope communicating(profile_, Phase::exchange, kBrief);
  (void)drive();
}

bool GradientExchange::drive() {
  while (launched_ < buckets_.size() && pending_[launched_].load(std::memory_order_acquire) == 0) launch(buckets_[launched_++]);
  if (launched_ == 0) return false;
  bool done = collective_->advance() && launched_ == buckets_.size();
  if (launched_ == buckets_.size() && buckets_.back().work->agreed()) all_there_.store(true, std::memory_order_release);
  if (between_) {
    while (launched_between_ < launched_ && !buckets_[launched_between_].work->running()) buckets_[launched_between_++].between->start(step_);
    done = between_->advance() && launched_between_ == buckets_.size();
  }
  return done;
}

void GradientExchange::launch(Bucket& bucket) {
  if (!bucket.on_device.empty()) {
    const auto words = &bucket == &buckets_.back() ? kWords : 0;
    device_.stream().copy(bucket.data(), bucket.on_device.raw(), (static_cast<std::size_t>(bucket.n) - words) * sizeof(float));
    device_.stream().synchronize();
  }
  bucket.work->start(step_);
}

void GradientExchange::finish(std::span<const float> words) {
  Bucket& last = buckets_.back();
  words_.fill(0);
  std::copy_n(words.begin(), std::min(words.size(), kWords), words_.begin());
  if (group_ == nullptr) std::copy_n(words_.begin(), kWords, last.data() + last.n - kWords);
  check(pending_.back().fetch_sub(1, std::memory_order_acq_rel) == 1, Code::internal, "a step ends before all gradients are there");
  const PhaseScope communicating(profile_, Phase::exchange);
  wait_for_buckets();
  fetch_staged();
  measure();
  if (group_ == nullptr) {
    std::copy_n(last.data() + last.n - kWords, kWords, words_.begin());
    return;
  }
  words_work_->start(step_);      // behind it all ranks have measured their shares
  words_work_->wait();
}

void GradientExchange::wait_for_buckets() {
  Communicator& communicator = collective_->communicator();
  const auto status = [this] {     // of the first that still runs; with a thread of its own, just of the last
    if (thread_) return WaitStatus{.operation = "sum of the gradients", .step = step_};
    for (std::size_t b = 0; b < launched_; ++b) {
      if (buckets_[b].work->running()) return buckets_[b].work->status();
      if (buckets_[b].between != nullptr && buckets_[b].between->running()) return buckets_[b].between->status();
    }
    return WaitStatus{.operation = "sum of the gradients", .step = step_};
  };
  bool done = false;
  const auto advance = [&] { return done = thread_ ? thread_->finished() : drive(); };
  {
    const PhaseScope waiting(profile_, Phase::slowest);
    communicator.wait(status, [&] { return advance() || all_there_.load(std::memory_order_acquire); });
  }
  communicator.wait(status, [&] { return done || advance(); });
}

void GradientExchange::fetch_staged() {
  if (buckets_.back().on_device.empty()) return;
  for (const Bucket& bucket : buckets_) {
    device_.stream().copy(bucket.on_device.raw(), bucket.data(), static_cast<std::size_t>(bucket.n) * sizeof(float));
  }
  device_.stream().synchronize();
}

void GradientExchange::measure() {
  auto* sums = static_cast<double*>(squares_.memory.get());
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    const Owned& mine = owned_[b];
    const float* g = buckets_[b].data() + (mine.begin - buckets_[b].begin);      // where the sums are, host memory
    for (std::int64_t i = 0; i < mine.n; i += Parameters::kUnit) sums[(mine.begin + i) / Parameters::kUnit] = squares_of_unit(g + i);
  }
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

double GradientExchange::sum_of_squares() const {
  const auto* sums = static_cast<const double*>(squares_.memory.get());
  return std::accumulate(sums, sums + parameters_.flat_size() / Parameters::kUnit, 0.0);
}

}  // namespace cohort
