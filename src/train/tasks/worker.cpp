#include "train/tasks/worker.hpp"

#include <algorithm>
#include <cmath>

namespace cohort {
namespace {

/// One bucket in memory of this rank alone: what leaves the rank does so by GradientPush.
ExchangeOptions alone(const ExchangeOptions& options) {
  constexpr double kEverything = 1e9;        // MiB
  ExchangeOptions result = options;
  result.first_bucket_mib = result.bucket_mib = kEverything;
  result.collective = {};
  return result;
}

}  // namespace

Worker::Worker(Run& run, Setup& setup, Communicator& client, Communicator& group, const TaskLayout& layout)
    : run_(run), setup_(setup), client_(client), layout_(layout), profile_(run.profile),
      exchange_(group, *setup.parameters, setup.replica->session().device(), alone(setup.updater.exchange), {}),
      push_(client, layout, *setup.parameters, exchange_, setup.replica->session().device()),
      pull_(client, layout, *setup.parameters, setup.replica->session().device()), token_in_(client.transport()), out_(client.transport()) {
  setup.replica->bind_exchange(*setup.parameters, {.memory = [this](std::size_t p) { return exchange_.gradient(p); },
                                                   .ready = [this](std::size_t p, const Tensor& gradient) { gradient_ready(p, &gradient); },
                                                   .poll = [this] { push_.poll(); }});
}

bool Worker::work() {
  report({});
  for (;;) {
    const Token token = next_token();
    if (token.averages != 0) take_averages();
    switch (token.kind) {
      case TokenKind::train: train(token); break;
      case TokenKind::evaluate: evaluate(token); break;
      case TokenKind::give_statistics: give_statistics(); break;
      case TokenKind::beat: break;
      case TokenKind::end: return token.complete != 0;
    }
  }
}

Token Worker::next_token() {
  const PhaseScope waiting(profile_, Phase::exchange);
  for (;;) {
    token_in_.receive(layout_.tasks.front(), task_tag::kToken, &token_, sizeof token_);
    client_.wait([&] { return WaitStatus{.operation = "work", .peer = layout_.tasks.front(), .step = token_.step}; }, [&] {
      push_.poll();
      return token_in_.done();
    });
    if (token_.number <= last_token_) continue;      // came twice
    last_token_ = token_.number;
    return token_;
  }
}

void Worker::report(Done done) {
  client_.wait(WaitStatus{.operation = "report", .peer = layout_.tasks.front()}, [&] { return out_.done(); });
  done.number = last_token_;
  done.stop = client_.context().stop_requested() ? 1 : 0;
  done_ = done;
  out_.send(layout_.tasks.front(), task_tag::kDone, &done_, sizeof done_);
}

template <class F>
void Worker::for_each_statistic(F&& f) {
  for (const Parameters::Other& other : setup_.parameters->others()) {
    if (other.statistic) f(other.value);
  }
}

void Worker::take_averages() {
  std::size_t n = 0;
  for_each_statistic([&](const Tensor& value) { n += static_cast<std::size_t>(value.elements()); });
  std::vector<float> averages(n);
  Transfer in(client_.transport());
  in.receive(layout_.tasks.front(), task_tag::kAverages, averages.data(), n * sizeof(float));
  client_.wait(WaitStatus{.operation = "statistics", .peer = layout_.tasks.front()}, [&] { return in.done(); });
  const float* from = averages.data();
  for_each_statistic([&](const Tensor& value) {
    value.copy_from(Tensor::of(value.shape(), std::vector<float>(from, from + value.elements())));
    from += value.elements();
  });
}

void Worker::give_statistics() {
  std::vector<float> mine;
  for_each_statistic([&](const Tensor& value) {
    const std::vector<float> values = value.to_vector<float>();
    mine.insert(mine.end(), values.begin(), values.end());
  });
  report({.kind = DoneKind::statistics});
  Transfer out(client_.transport());
  out.send(layout_.tasks.front(), task_tag::kStatistics, mine.data(), mine.size() * sizeof(float));
  client_.wait(WaitStatus{.operation = "statistics", .peer = layout_.tasks.front()}, [&] { return out.done(); });
}

BatchPipeline& Worker::batches_of(const Token& token) {
  for (Batches& each : batches_) {
    if (each.phase == token.phase && each.share == token.share && each.shares == token.shares) return *each.pipeline;
  }
  std::erase_if(batches_, [&](const Batches& each) { return each.phase != token.phase; });
  const PhaseBatches how = run_.plan.phases.phases()[static_cast<std::size_t>(token.phase)].batches(run_.plan.pipeline, run_.replicas);
  PipelineOptions options = how.pipeline;
  if (token.in_steps == 0) options.threads = 0;      // which batch comes next is known only where every update takes the next one
  batches_.push_back({token.phase, token.share, token.shares,
                      std::make_unique<BatchPipeline>(setup_.training_data, options, token.share, token.shares)});
  return *batches_.back().pipeline;
}

void Worker::train(const Token& token) {
  client_.rank_activity()->arrive({.step = token.step});
  profile_.begin_step(token.step + 1);
  const PhaseScope computing(profile_, Phase::compute);
  {
    const PhaseScope pulling(profile_, Phase::exchange);
    pull_.fetch(token.version);
  }
  if (token.in_steps != 0 && pull_.newest() > token.version) {        // the step is over: this gradient would be dropped
    report({.kind = DoneKind::outdated, .read = token.version});
    return profile_.end_step();
  }
  BatchPipeline& data = batches_of(token);
  if (data.position() != token.position) data.seek(token.position);
  Done done{.kind = DoneKind::trained, .read = pull_.oldest()};
  exchange_.begin(token.step);
  push_.begin(token.step);
  for (std::int64_t i = 0; i < setup_.train.accumulate; ++i) {
    const SampleBatch* batch = nullptr;
    {
      const PhaseScope waiting(profile_, Phase::data);
      batch = data.next();
    }
    last_of_update_ = i + 1 == setup_.train.accumulate || batch->last_in_epoch;
    micro_step_ = token.step * setup_.train.accumulate + i;
    forward_backward(*batch, token, last_of_update_, done);
    if (last_of_update_) break;
  }
  exchange_.finish({});
  if (setup_.train.accumulate > 1) exchange_.clear_accumulated();
  const PhaseScope pushing(profile_, Phase::exchange);
  done.gradient = push_.finish();
  done.norm = std::sqrt(exchange_.sum_of_squares());
  report(done);
  profile_.end_step();
}

/// The gradient is a mean over this share's samples, if the update's batch has equal shares: so does its sum over all shares,
/// divided by their number, weigh every sample alike, in a short batch as well.
void Worker::forward_backward(const SampleBatch& batch, const Token& token, bool last, Done& done) {
  if (batch.samples == 0) return contribute_zeros(last);
  const double weight = static_cast<double>(batch.samples) * token.shares / static_cast<double>(token.samples);
  const BatchResult& result = setup_.replica->train(batch, weight, {.seed = setup_.train.seed, .step = micro_step_, .row_offset = batch.row_offset,
                                                                    .row_stride = batch.row_stride});
  const auto n = static_cast<double>(batch.samples);
  done.samples += batch.samples;
  done.sums[0] += n * result.loss;
  for (std::size_t m = 0; m < result.metrics.size(); ++m) done.sums[1 + m] += n * result.metrics[m];
  if (!last) end_batch();
}

void Worker::contribute_zeros(bool last) {
  if (!last) return;
  exchange_.zero_gradients();
  for (std::size_t p = 0; p < setup_.parameters->trained().size(); ++p) gradient_ready(p, nullptr);
}

void Worker::gradient_ready(std::size_t p, const Tensor* gradient) {
  if (!last_of_update_) return;
  if (setup_.train.accumulate > 1) exchange_.add_accumulated(p);
  exchange_.ready(p, gradient);
  push_.ready(p);
}

void Worker::end_batch() {
  for (std::size_t p = 0; p < setup_.parameters->trained().size(); ++p) exchange_.accumulate(p);
}

void Worker::evaluate(const Token& token) {
  const PhaseScope validating(profile_, Phase::validation);
  pull_.fetch(token.version);
  if (validation_share_ != token.share) {
    validation_ = std::make_unique<BatchPipeline>(setup_.validation_data, setup_.pipeline, token.share, token.shares, BatchUse::evaluation);
    validation_share_ = token.share;
  }
  validation_->rewind();
  Done done{.kind = DoneKind::evaluated};
  while (const SampleBatch* batch = validation_->next()) {
    if (batch->samples == 0) continue;
    const BatchResult& result = setup_.replica->evaluate(*batch);
    const auto n = static_cast<double>(batch->samples);
    done.samples += batch->samples;
    done.sums[0] += n * result.loss;
    for (std::size_t m = 0; m < result.metrics.size(); ++m) done.sums[1 + m] += n * result.metrics[m];
  }
  report(done);
}

void Worker::add_to_summary() {
  constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
  RankSummary& summary = run_.summary;
  const Device& device = setup_.replica->session().device();
  summary.samples += setup_.replica->cost().samples;
  summary.flops += setup_.replica->cost().flops;
  MemorySummary& m = summary.memory;
  m.parameters = setup_.parameters->value_bytes();
  m.gradients = exchange_.gradient_bytes();
  m.activations = static_cast<std::int64_t>(setup_.replica->arena_bytes());
  m.communication += push_.bytes() + pull_.bytes();
  m.device_total = device.memory().now.load() + (device.info().host_accessible ? m.gradients : 0);
  m.kernels = m.device_total - m.parameters - m.gradients - m.activations;
  m.least = setup_.parameters->elements() * kFloat * 2 + static_cast<std::int64_t>(setup_.replica->cost().least_activation_bytes);
  for (const Batches& each : batches_) m.batches += each.pipeline->batch_bytes();
  if (validation_) m.batches += validation_->batch_bytes();
}

}  // namespace cohort
