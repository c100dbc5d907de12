#include "cohort/exchange/exchange.hpp"

#include <algorithm>
#include <numeric>

#include "exchange/driver_thread.hpp"
#include "params/unit_table.hpp"

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

/// What `[first, last)` of the parameters take of the flat space.
FlatRange range_of(const Parameters& parameters, std::size_t first, std::size_t last) {
  const auto all = parameters.trained();
  const std::int64_t begin = first < all.size() ? all[first].offset : parameters.flat_size();
  return {begin, (last < all.size() ? all[last].offset : parameters.flat_size()) - begin};
}

/// Parameters [first, last) of each bucket; one bucket at least.
std::vector<std::pair<std::size_t, std::size_t>> cut(const Parameters& parameters, const ExchangeOptions& options) {
  std::vector<std::pair<std::size_t, std::size_t>> buckets{{0, 0}};
  for (std::size_t p = 0; p < parameters.trained().size(); ++p) {
    const double mib = buckets.size() == 1 ? options.first_bucket_mib : options.bucket_mib;
    const auto limit = static_cast<std::int64_t>(mib * kMiB / sizeof(float));
    const bool full = range_of(parameters, buckets.back().first, p + 1).n > limit;
    if (buckets.back().first < p && (full || p == parameters.first_small())) buckets.emplace_back(p, p);
    buckets.back().second = p + 1;
  }
  return buckets;
}

}  // namespace

std::vector<FlatRange> bucket_ranges(const Parameters& parameters, const ExchangeOptions& options) {
  std::vector<FlatRange> ranges;
  for (const auto& [first, last] : cut(parameters, options)) ranges.push_back(range_of(parameters, first, last));
  return ranges;
}

ExchangeOptions::ExchangeOptions(Section& section) : collective(section) {
  section.bind("rank_order", collective.rank_order, "sum every element in rank order, whatever the bucket: collectives that cannot are refused");
  section.bind("first_bucket_mib", first_bucket_mib, "size of the first bucket, small so that communication starts early (MiB)", above(0, 1 << 20));
  section.bind("bucket_mib", bucket_mib, "size of every other bucket (MiB)", above(0, 1 << 20));
  section.bind("shared_parameters", shared_parameters, "ranks of a machine keep one copy of the parameters and update a share each, where they can");
  section.bind("thread", thread,
               "drive the exchange from a thread of its own; auto: where MPI allows it and the rank has a core beside those of "
               "its kernels",
               one_of({"auto", "on", "off"}));
  section.bind("dense_steps", dense_steps, "with a codec that is not exact: first steps of the training that go in float32", at_least(0));
  section.bind("error_feedback", error_feedback, "keep what the codec loses and add it to the next gradient; auto: with int8",
               one_of({"auto", "on", "off"}));
  section.bind("small_codec", small_codec_name, "with a codec that is not exact: how tensors of one dimension and small ones travel",
               one_of(Registry<CodecType>::instance().names()));
  section.bind("small_elements", small_elements, "tensors with fewer elements are small", at_least(0));
}

bool ExchangeOptions::is_small(const Shape& shape) const {
  if (collective.codec == nullptr || collective.codec->exact() || small_codec_name == collective.codec_name) return false;
  return shape.rank() < 2 || shape.elements() < small_elements;
}

GradientExchange::GradientExchange(Communicator& communicator, const Parameters& parameters, Device& device,
                                   const ExchangeOptions& options, const ExchangeSetting& setting)
    : parameters_(parameters), device_(device), profile_(*communicator.context().profile), group_(setting.group), setting_(setting),
      dense_steps_(options.dense_steps), small_codec_name_(options.small_codec_name), dense_codec_(codec_named("fp32")),
      small_codec_(codec_named(options.small_codec_name)), each_batch_(setting.parts || options.each_batch) {
  check(!setting.blocks || device_.info().host_accessible, Code::failed_precondition,
        "sums in blocks need a device whose memory the host can reach, " + device_.info().name() + " is none");
  CollectiveOptions within = options.collective;
  if (group_ != nullptr) {
    within = within.with_codec("fp32");
    within.algorithm = node_memory_algorithm(within.algorithm);
  }
  collective_ = make_collective(group_ != nullptr ? group_->node() : communicator, within);
  collective_->trace_to("exchange");
  if (group_ != nullptr && group_->between() != nullptr) {
    CollectiveOptions between = options.collective;
    between.rank = communicator.rank();                    // ranks of a machine round differently
    between_ = make_collective(*group_->between(), between);
  }
  const CollectiveOptions& coded = (between_ ? between_ : collective_)->options();
  lossy_ = !coded.codec->exact();
  codec_name_ = coded.codec_name;
  make_buckets(options);
  if (lossy_) keep_residuals(options);
  pending_ = std::vector<std::atomic<std::size_t>>(buckets_.size());
  if (setting_.blocks) prepare_blocks(communicator, options.collective);
  for (std::size_t b = 0; b < buckets_.size() && !setting_.parts; ++b) prepare(buckets_[b], b);
  if (!lossy_ && !setting_.parts) take(kDense);
  if (each_batch_ && !setting_.parts) {
    std::int64_t n = 0;
    for (const GradientRange& mine : owned_) n += mine.n;
    kept_sums_.resize(static_cast<std::size_t>(n));
  }
  if (setting_.parts && parameters_.trained().empty()) take_buffer(0);      // no gradient will
  if (group_ != nullptr || (lossy_ && !setting_.blocks)) prepare_words(communicator, options.collective);
  if (!setting_.blocks) squares_ = std::make_unique<UnitTable>(parameters_.flat_size(), 1, group_);
  if (setting.own_thread && communicator.size() > 1) {
    check(device_.info().host_accessible, Code::failed_precondition,
          "exchange.thread = \"on\": gradients of " + device_.info().name() + " pass through host memory on the main thread");
    why_no_thread_ = communicator.transport().why_one_thread();
    check(why_no_thread_.empty() || options.thread != "on", Code::failed_precondition,
          "exchange.thread = \"on\": " + why_no_thread_ +
              ", so a second thread must not talk to other ranks; \"auto\" goes without");
    if (why_no_thread_.empty()) thread_ = std::make_unique<DriverThread>([this] { return drive(); });
  }
}

GradientExchange::~GradientExchange() = default;

void GradientExchange::make_buckets(const ExchangeOptions& options) {
  for (const auto& [first, last] : cut(parameters_, options)) {
    const FlatRange range = range_of(parameters_, first, last);
    bucket_of_.insert(bucket_of_.end(), last - first, buckets_.size());
    buckets_.push_back({.first = first, .last = last, .begin = range.begin, .n = range.n});
    if (lossy_ && first >= parameters_.first_small() && first < last) buckets_.back().codec = small_codec_.get();
    largest_ = std::max(largest_, range.n);
  }
  if (!words_apart()) buckets_.back().n += kWords;
}

/// Blocks of the whole job: their squares and the words meet in a table that all ranks get. In parts the sums have memory of
/// their own, and the buckets none.
void GradientExchange::prepare_blocks(Communicator& communicator, const CollectiveOptions& options) {
  std::vector<FlatRange> ranges;
  std::int64_t mine = 0;
  for (const Bucket& bucket : buckets_) {
    ranges.push_back({bucket.begin, bucket.n});
    mine += static_cast<std::int64_t>(collective_->block(communicator.rank(), static_cast<std::size_t>(bucket.n)).size);
  }
  squares_ = std::make_unique<UnitTable>(communicator, ranges, 1, kWords, options);
  if (!setting_.parts) return;
  buffer_of_.assign(buckets_.size(), -1);
  parts_ = Tensor(device_, DType::float32, {mine});
  std::int64_t at = 0;
  for (const Bucket& bucket : buckets_) {
    const Block block = collective_->block(communicator.rank(), static_cast<std::size_t>(bucket.n));
    const auto n = static_cast<std::int64_t>(block.size);
    owned_.push_back({.begin = bucket.begin + static_cast<std::int64_t>(block.begin), .n = n, .gradient = parts_.data<float>() + at});
    at += n;
  }
}

void GradientExchange::prepare(Bucket& bucket, std::size_t id) {
  bucket.memory = collective_->allocate(static_cast<std::size_t>(bucket.n) * sizeof(float));
  if (!device_.info().host_accessible) {
    bucket.on_device = Tensor(device_, DType::float32, {bucket.n});
    bucket.on_device.copy_from(Tensor::zeros({bucket.n}));
  }
  if (group_ == nullptr && !setting_.blocks) {
    float* gradients = bucket.on_device.empty() ? bucket.data() : bucket.on_device.data<float>();
    owned_.push_back({.begin = bucket.begin, .n = bucket.n - (is_last(bucket) && !words_apart() ? std::int64_t{kWords} : 0), .gradient = gradients});
    return;
  }
  const cohort::Bucket whole{.id = static_cast<int>(id), .data = bucket.data(), .n = static_cast<std::size_t>(bucket.n)};
  if (group_ != nullptr) bucket.work = &collective_->reduce_scatter(whole);
  const Block mine = collective_->block(collective_->communicator().rank(), whole.n);
  owned_.push_back({.begin = bucket.begin + static_cast<std::int64_t>(mine.begin), .n = static_cast<std::int64_t>(mine.size),
                    .gradient = bucket.data() + mine.begin});
}

void GradientExchange::prepare_words(Communicator& communicator, const CollectiveOptions& options) {
  CollectiveOptions exact = options.with_codec("fp32");
  exact.algorithm = "auto";
  words_collective_ = make_collective(communicator, exact);
  words_work_ = &words_collective_->all_reduce({.id = static_cast<int>(buckets_.size()), .data = words_.data(), .n = kWords});
}

std::int64_t GradientExchange::bytes() const noexcept {
  std::int64_t n = parts_.empty() ? 0 : parts_.elements() + std::ssize(buffers_) * largest_;
  for (const Bucket& bucket : buckets_) n += setting_.parts ? 0 : bucket.n;
  return n * static_cast<std::int64_t>(sizeof(float));
}

std::int64_t GradientExchange::gradient_bytes() const noexcept {
  const std::int64_t n = setting_.parts ? parts_.elements() : parameters_.flat_size();
  return n * static_cast<std::int64_t>(sizeof(float));
}

std::string GradientExchange::text() const {
  std::string text = std::to_string(buckets_.size()) + (buckets_.size() == 1 ? " bucket over " : " buckets over ") + collective_->describe();
  if (between_) text += " and, between machines, " + between_->describe();
  if (group_ != nullptr) text += ", one copy of the parameters per machine";
  if (setting_.blocks) text += ", every rank sums its blocks";
  if (thread_) text += ", from a thread of its own";
  if (!why_no_thread_.empty()) text += ", without the thread that a free core is there for: " + why_no_thread_;
  if (!kept_sums_.empty()) text += ", every batch of an update by itself";
  if (!lossy_) return text;
  text += "; " + codec_name_ + (keeps_residuals() ? " with error feedback" : "");
  if (dense_steps_ > 0) text += " after " + std::to_string(dense_steps_) + " steps in fp32";
  const std::size_t small = parameters_.trained().size() - parameters_.first_small();
  if (small > 0) text += ", " + std::to_string(small) + " small tensors in " + small_codec_name_;
  return text;
}

float* GradientExchange::host_gradient(std::size_t parameter) const {
  const Bucket& bucket = buckets_[bucket_of_[parameter]];
  return bucket.data() + (parameters_.trained()[parameter].offset - bucket.begin);
}

Tensor GradientExchange::gradient(std::size_t parameter) const {
  if (setting_.parts) return {};
  const Bucket& bucket = buckets_[bucket_of_[parameter]];
  const Parameter& p = parameters_.trained()[parameter];
  if (bucket.on_device.empty()) return {device_, DType::float32, p.shape, host_gradient(parameter), bucket.memory.memory, p.ld};
  return {device_, DType::float32, p.shape, bucket.on_device.data<float>() + (p.offset - bucket.begin), bucket.on_device.owner(), p.ld};
}

void GradientExchange::begin(std::int64_t step) {
  step_ = step;
  batch_ = 0;
  reports_.clear();
  coded_ = lossy_ && step >= dense_steps_ && !flushes_;
  if (lossy_) take(coded_ ? kCoded : kDense);
  launch_all();
  if (thread_) thread_->start();
}

void GradientExchange::launch_all() {
  launched_ = launched_between_ = kept_ = 0;
  all_there_.store(false, std::memory_order_relaxed);
  for (std::size_t b = 0; b < buckets_.size(); ++b) pending_[b].store(buckets_[b].last - buckets_[b].first, std::memory_order_relaxed);
  pending_.back().fetch_add(1, std::memory_order_relaxed);      // waits for the end of the batch, and for the words
  for (Held& buffer : buffers_) buffer.bucket = -1;
}

void GradientExchange::ready(std::size_t parameter, const Tensor* gradient) {
  const std::size_t b = bucket_of_[parameter];
  const std::size_t least = b + 1 == buckets_.size() ? 2 : 1;
  if (pending_[b].load(std::memory_order_relaxed) < least) {
    fail(Code::internal, "the gradient of '" + parameters_.trained()[parameter].name + "' is ready twice in one step");
  }
  if (setting_.parts) {
    take_buffer(b);
    copy_gradient(parameter, gradient);
  }
  if (pending_[b].fetch_sub(1, std::memory_order_acq_rel) == 1) poll();
}

/// Into its bucket's buffer, where another bucket has been: padding and what aligns parameters must be zero again.
void GradientExchange::copy_gradient(std::size_t parameter, const Tensor* gradient) {
  const Parameter& p = parameters_.trained()[parameter];
  const std::int64_t end = range_of(parameters_, parameter, parameter + 1).n;
  float* const to = host_gradient(parameter);
  if (gradient == nullptr) {
    std::fill_n(to, end, 0.f);
    return;
  }
  Tensor(device_, DType::float32, p.shape, to, nullptr, p.ld).copy_from(*gradient);
  const std::int64_t columns = p.shape.columns();
  for (std::int64_t row = 0; p.ld > columns && row < p.shape.rows(); ++row) std::fill_n(to + row * p.ld + columns, p.ld - columns, 0.f);
  std::fill(to + p.n, to + end, 0.f);
}

/// A bucket gets the buffer that it had in the first step. There it gets one whose bucket waits for nothing but its sum, the
/// oldest; where there is none, or just one buffer, a new one. All that depends on the order of the gradients alone, which is
/// the same on all ranks, so buffers, works and their order are so, too.
void GradientExchange::take_buffer(std::size_t b) {
  Bucket& bucket = buckets_[b];
  std::int64_t& mine = buffer_of_[b];
  if (mine >= 0 && buffers_[static_cast<std::size_t>(mine)].bucket == static_cast<std::int64_t>(b)) return;
  const auto complete = [&](std::int64_t other) {
    return std::all_of(pending_.begin(), pending_.begin() + other + 1, [](const auto& left) { return left.load(std::memory_order_relaxed) == 0; });
  };
  if (mine < 0) {
    for (std::size_t i = 0; i < buffers_.size() && buffers_.size() > 1; ++i) {
      const std::int64_t last = buffers_[i].bucket;
      if ((last < 0 || complete(last)) && (mine < 0 || last < buffers_[static_cast<std::size_t>(mine)].bucket)) mine = static_cast<std::int64_t>(i);
    }
    if (mine < 0) {
      mine = std::ssize(buffers_);
      buffers_.push_back({.memory = collective_->allocate(static_cast<std::size_t>(largest_) * sizeof(float))});
    }
    bucket.memory = buffers_[static_cast<std::size_t>(mine)].memory;
  }
  if (bucket.work == nullptr) bucket.work = make_way(b, coded_ ? kCoded : kDense);
  Held& buffer = buffers_[static_cast<std::size_t>(mine)];
  if (buffer.bucket >= 0) {
    check(complete(buffer.bucket), Code::internal, "gradients come in another order than in the first step");
    wait_for_block(static_cast<std::size_t>(buffer.bucket));
  }
  buffer.bucket = static_cast<std::int64_t>(b);
}

void GradientExchange::wait_for_block(std::size_t b) {
  const PhaseScope communicating(profile_, Phase::exchange);
  collective_->communicator().wait([this, b] { return buckets_[b].work->status(); }, [this, b] {
    (void)drive();
    return kept_ > b;
  });
}

void GradientExchange::keep_block(std::size_t b) {
  const GradientRange& mine = owned_[b];
  const float* sums = buckets_[b].data() + (mine.begin - buckets_[b].begin);
  if (batch_ == 0) std::copy_n(sums, mine.n, mine.gradient);
  else for (std::int64_t i = 0; i < mine.n; ++i) mine.gradient[i] += sums[i];
}

float* GradientExchange::host_sums(std::size_t b) const {
  return buckets_[b].data() + (owned_[b].begin - buckets_[b].begin);
}

void GradientExchange::poll() {
  if (thread_ || (launched_ == 0 && pending_[0].load(std::memory_order_relaxed) > 0)) return;
  const PhaseScope communicating(profile_, Phase::exchange, kBrief);
  (void)drive();
}

bool GradientExchange::drive() {
  while (launched_ < buckets_.size() && pending_[launched_].load(std::memory_order_acquire) == 0) launch(launched_++);
  if (launched_ == 0) return false;
  bool done = collective_->advance() && launched_ == buckets_.size();
  while (setting_.parts && kept_ < launched_ && !buckets_[kept_].work->running()) keep_block(kept_++);
  if (launched_ == buckets_.size() && buckets_.back().work->agreed()) all_there_.store(true, std::memory_order_release);
  if (between_) {
    while (launched_between_ < launched_ && !buckets_[launched_between_].work->running()) {
      observe(launched_between_);
      buckets_[launched_between_++].between->start(step_);
    }
    done = between_->advance() && launched_between_ == buckets_.size();
  }
  return done;
}

void GradientExchange::launch(std::size_t b) {
  Bucket& bucket = buckets_[b];
  if (!bucket.on_device.empty()) {
    const auto words = is_last(bucket) && !words_apart() ? kWords : 0;
    device_.stream().copy(bucket.data(), bucket.on_device.raw(), (static_cast<std::size_t>(bucket.n) - words) * sizeof(float));
    device_.stream().synchronize();
  }
  if (batch_ == 0 && (coded_ || flushes_)) bucket.residual_before = bucket.residual;      // as long: allocates nothing
  if (flushes_) {
    for (std::size_t i = 0; i < bucket.residual.size(); ++i) bucket.data()[i] += std::exchange(bucket.residual[i], 0.f);
  }
  if (!between_) observe(b);
  bucket.work->start(step_);
}

StepScalars GradientExchange::finish(const StepScalars& mine) {
  Bucket& last = buckets_.back();
  std::ranges::copy(mine.numbers(), words_.begin());
  if (!words_apart()) std::copy_n(words_.begin(), kWords, last.data() + last.n - kWords);
  check(pending_.back().fetch_sub(1, std::memory_order_acq_rel) == 1, Code::internal, "a step ends before all gradients are there");
  const PhaseScope communicating(profile_, Phase::exchange);
  if (words_work_ != nullptr && group_ == nullptr) words_work_->start(step_);
  wait_for_buckets();
  if (batch_ > 0 && !setting_.parts) add_kept_sums();
  fetch_staged();
  measure();
  flushed_ = std::exchange(flushes_, false);
  if (observes_) report();
  if (!words_apart()) {
    std::copy_n(last.data() + last.n - kWords, kWords, words_.begin());
  } else if (words_work_ != nullptr) {
    if (group_ != nullptr) words_work_->start(step_);    // behind it all ranks of the machine have measured their shares
    words_work_->wait();
  } else {
    share_squares();
  }
  StepScalars sums;
  std::ranges::copy(words_, sums.numbers().begin());
  return sums;
}

/// The words travel with the squares; their sums are taken in rank order.
void GradientExchange::share_squares() {
  const Communicator& communicator = collective_->communicator();
  std::ranges::copy(words_, squares_->extra(communicator.rank()).begin());
  squares_->share(step_);
  for (std::size_t i = 0; i < kWords; ++i) {
    words_[i] = 0;
    for (int rank = 0; rank < communicator.size(); ++rank) words_[i] += static_cast<float>(squares_->extra(rank)[i]);
  }
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
  for (std::size_t b = 0; b < buckets_.size(); ++b) {
    const GradientRange& mine = owned_[b];
    // Where the sums are in host memory.
    const float* g = setting_.parts ? mine.gradient : host_sums(b);
    for (std::int64_t i = 0; i < mine.n; i += Parameters::kUnit) squares_->row((mine.begin + i) / Parameters::kUnit)[0] = squares_of_unit(g + i);
  }
}

void GradientExchange::zero_gradients() {
  if (setting_.parts) return;                 // `ready` does it
  for (const Bucket& bucket : buckets_) {
    if (bucket.on_device.empty()) std::fill_n(bucket.data(), bucket.n, 0.f);
    else bucket.on_device.copy_from(Tensor::zeros({bucket.n}));
  }
}

double GradientExchange::sum_of_squares() const {
  double sum = 0;
  for (std::int64_t unit = 0; unit < squares_->units(); ++unit) sum += squares_->row(unit)[0];
  return sum;
}

}  // namespace cohort
