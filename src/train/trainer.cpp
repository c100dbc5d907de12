#include "cohort/train/trainer.hpp"

#include <fmt/core.h>

#include <array>
#include <cmath>

#include "cohort/base/random.hpp"
#include "cohort/train/checkpoint.hpp"
#include "cohort/train/report.hpp"
#include "train/replica_sums.hpp"
#include "train/report/output_file.hpp"
#include "train/report/progress_line.hpp"
#include "train/report/run_report.hpp"
#include "train/residual_files.hpp"
#include "train/run_directory.hpp"
#include "train/setup.hpp"

namespace cohort {
namespace {

/// What the trainer itself must remember.
struct TrainerState final : Stateful {
  std::int64_t step = 0;                    // updates applied or skipped
  std::int64_t applied = 0, skipped = 0, samples = 0;
  Position position;
  double previous_rate = 0;
  double best = 0;                          // of the metric that chooses the best checkpoint
  std::int64_t has_best = 0;
  std::int64_t seed = 0;

  void visit(StateVisitor& v) override {
    v.value("train/step", step);
    v.value("train/applied", applied);
    v.value("train/skipped", skipped);
    v.value("train/samples", samples);
    v.value("data/epoch", position.epoch);
    v.value("data/sample", position.sample);
    v.value("schedule/previous_learning_rate", previous_rate);
    v.value("train/best", best);
    v.value("train/has_best", has_best);
    v.value("train/seed", seed);
  }
};

/// Words that the last bucket sums over the ranks.
enum Word : std::size_t { kLoss, kStop, kMetrics };

class Trainer {
 public:
  Trainer(Communicator& communicator, Section& config, const std::string& resume)
      : communicator_(communicator), profile_(*communicator.context().profile), setup_(communicator, config),
        directory_(choose_directory(communicator, setup_.train.directory, resume)),
        data_(setup_.training_data, setup_.pipeline, communicator.rank(), communicator.size()),
        updater_(make_updater()), steps_per_epoch_(updates_per_epoch()), total_steps_(setup_.train.epochs * steps_per_epoch_),
        progress_(communicator.context(), total_steps(), steps_per_epoch_) {
    if (setup_.validation_data) {
      validation_ = std::make_unique<BatchPipeline>(setup_.validation_data, setup_.pipeline, communicator.rank(), communicator.size(),
                                                    BatchUse::evaluation);
    }
    check(setup_.replica->metric_names().size() + kMetrics <= GradientExchange::kWords, Code::invalid_argument,
          "a model may report at most 14 metrics");
    total_steps_ = total_steps();
    state_.seed = static_cast<std::int64_t>(setup_.train.seed);
    check(!setup_.train.check_replicas || !setup_.parameters->windowed(), Code::invalid_argument,
          "train.check_replicas: the ranks keep one copy of the parameters between them, there is nothing to compare");
    bind_exchange();
    check_same_model(communicator_, setup_.replica->graph());
    if (setup_.replica->is_joint()) {
      sums_ = std::make_unique<ReplicaSums>(communicator_);
      setup_.replica->bind_sum_over_replicas([this](std::span<float> values) { sums_->sum(values); });
    }
    start();
  }

  TrainResult run() {
    RunReport report(communicator_, setup_.trace);
    window_began_ = profile_.started();
    describe();
    while (state_.step < total_steps_ && !result_.stopped) {
      update();
      const bool epoch_ended = data_.position().sample == 0;
      const bool last = state_.step >= total_steps_ || result_.stopped;
      if (epoch_ended || last) end_of_epoch(last);
      else if (setup_.checkpoint.every_steps > 0 && state_.step % setup_.checkpoint.every_steps == 0) save(false);
    }
    progress_.finish();
    close_writer();
    result_.steps = state_.step;
    result_.skipped = state_.skipped;
    result_.directory = directory_.path;
    if (saved_) result_.checkpoint = directory_.checkpoints() / "latest";
    profile_.stop();
    result_.seconds = profile_.wall();
    const std::string table = report.finish(summary(), setup_.config_text, directory_.path);
    if (is_root()) progress_.note("\n" + table);
    return result_;
  }

 private:
  [[nodiscard]] bool is_root() const { return communicator_.rank() == 0; }

  std::unique_ptr<Updater> make_updater() {
    if (!Registry<UpdaterType>::instance().get(setup_.train.updater).places_parameters) setup_.place_parameters();
    return setup_.make_updater(communicator_, *setup_.parameters, *setup_.optimizer, setup_.replica->session(), setup_.updater);
  }

  void bind_exchange() {
    Replica::ExchangeHooks hooks{.memory = [this](std::size_t p) { return updater_->exchange().gradient(p); },
                                 .ready = [this](std::size_t p, const Tensor& gradient) { gradient_ready(p, &gradient); },
                                 .poll = [this] { updater_->poll(); }};
    if (updater_->reads_on_demand()) hooks.before_read = [this](std::span<const std::size_t> p) { updater_->before_read(p); };
    setup_.replica->bind_exchange(*setup_.parameters, std::move(hooks));
  }

  [[nodiscard]] std::int64_t updates_per_epoch() const {
    const std::int64_t k = setup_.train.accumulate;
    return (data_.steps_per_epoch() + k - 1) / k;
  }
  [[nodiscard]] std::int64_t total_steps() const {
    const std::int64_t all = setup_.train.epochs * steps_per_epoch_;
    return setup_.train.max_steps > 0 ? std::min(all, setup_.train.max_steps) : all;
  }

  /// The same start on all ranks: the checkpoint's state or rank 0's initial values.
  void start() {
    if (!directory_.resume_from.empty()) {
      const CheckpointHeader header = load_checkpoint(directory_.resume_from, parts_);
      ResidualFiles::load(communicator_, updater_->exchange(), header.path);
      updater_->parameters_changed();
      data_.seek(state_.position);
    }
    setup_.parameters->for_each_start_value([&](const Tensor& value, bool mine) {
      std::vector<float> values(static_cast<std::size_t>(value.elements()));
      if (is_root()) values = value.to_vector<float>();
      communicator_.broadcast_values(std::span<float>(values), 0);
      if (mine) value.copy_from(Tensor::of(value.shape(), values));
    });
    communicator_.barrier();                   // shared parameters are there
    GradientExchange& exchange = updater_->exchange();
    if (exchange.keeps_residuals()) {
      residuals_ = std::make_unique<ResidualFiles>(communicator_, exchange, directory_.checkpoints(), setup_.checkpoint.keep, setup_.config_text);
    }
    const bool in_parts = setup_.parameters->shard() != nullptr;
    if (is_root() || in_parts) {
      writer_ = std::make_unique<CheckpointWriter>(directory_.checkpoints(), setup_.checkpoint.keep, setup_.config_text,
                                                   communicator_.context().log, in_parts ? &communicator_ : nullptr);
    }
    if (!is_root()) return;
    OutputFile(directory_.path / "configuration.toml", "wb").write(setup_.config_text);
    const MetricsStart from{.after_step = directory_.resume_from.empty() ? -1 : state_.step, .host = communicator_.context().host};
    metrics_.push_back(json_lines_writer(directory_.path / "metrics.jsonl", from));
    metrics_.push_back(tensorboard_writer(directory_.path / "tensorboard", from));
  }

  void describe() {
    progress_.note(fmt::format("{} parameters, {} ranks, {} samples per step, {} steps per epoch, {}; writing to {}",
                               setup_.parameters->elements(), communicator_.size(), data_.global_batch() * setup_.train.accumulate,
                               steps_per_epoch_, updater_->exchange().text(), directory_.path.string()));
    const std::string plan = updater_->memory_plan();
    if (!plan.empty()) progress_.note(plan);
    else if (communicator_.size() > 1 && !setup_.group) progress_.note("every rank has parameters of its own: " + setup_.no_group);
    if (!directory_.resume_from.empty()) {
      progress_.note(fmt::format("resumed from {} at step {}", directory_.resume_from.string(), state_.step));
    }
  }

  void gradient_ready(std::size_t p, const Tensor* gradient) {
    const bool in_parts = updater_->exchange().in_parts();
    if (!last_of_update_ && !in_parts) return;
    if (setup_.train.accumulate > 1 && !in_parts) updater_->exchange().add_accumulated(p);
    updater_->ready(p, gradient);
  }

  /// A batch that is not the last of its update: its gradients wait for the others.
  void end_batch() {
    GradientExchange& exchange = updater_->exchange();
    if (exchange.in_parts()) updater_->end_batch();
    else for (std::size_t p = 0; p < setup_.parameters->trained().size(); ++p) exchange.accumulate(p);
  }

  /// Samples of all ranks in the update at hand, known before its first batch.
  [[nodiscard]] std::int64_t samples_of_update() const {
    const std::int64_t all = setup_.pipeline.drop_last ? data_.steps_per_epoch() * data_.global_batch() : data_.reader().size();
    return std::min(data_.global_batch() * setup_.train.accumulate, all - data_.position().sample);
  }

  void add_words(const BatchResult& result, double weight) {
    words_[kLoss] += static_cast<float>(weight * result.loss);
    for (std::size_t m = 0; m < result.metrics.size(); ++m) words_[kMetrics + m] += static_cast<float>(weight * result.metrics[m]);
  }

  void forward_backward(const SampleBatch& batch, double update_samples) {
    if (batch.samples == 0 && !sums_ && !updater_->reads_on_demand()) {
      contribute_zeros();
      return;
    }
    const double weight = static_cast<double>(batch.samples) / update_samples;
    const RunOptions options{.seed = setup_.train.seed, .step = micro_step_, .row_offset = batch.row_offset, .row_stride = batch.row_stride};
    if (sums_) sums_->begin(micro_step_);
    const BatchResult& result = setup_.replica->train(batch, weight, options);
    if (batch.samples > 0) add_words(result, weight);
    if (!last_of_update_) end_batch();
  }

  /// Nothing reached this rank: it keeps step with the others.
  void contribute_zeros() {
    GradientExchange& exchange = updater_->exchange();
    if (!last_of_update_ && !exchange.in_parts()) return;
    exchange.zero_gradients();
    for (std::size_t p = 0; p < setup_.parameters->trained().size(); ++p) gradient_ready(p, nullptr);
    if (!last_of_update_) end_batch();
  }

  const SampleBatch* next_batch() {
    const PhaseScope waiting(profile_, Phase::data);
    return data_.next();
  }

  void update() {
    profile_.begin_step(state_.step + 1);
    const PhaseScope computing(profile_, Phase::compute);
    const std::int64_t k = setup_.train.accumulate;
    const std::int64_t samples = samples_of_update();
    const TrainingLength length{.steps_per_epoch = steps_per_epoch_, .total_steps = setup_.train.epochs * steps_per_epoch_,
                                .global_batch = data_.global_batch() * k};
    const double rate = setup_.schedule->rate(state_.step, length);
    const StepInfo info{.step = state_.applied, .learning_rate = rate, .previous_learning_rate = state_.applied > 0 ? state_.previous_rate : rate};
    words_.fill(0);
    if (is_logged(state_.step + 1)) updater_->exchange().observe_next_step();
    updater_->begin({.step = state_.step});
    for (std::int64_t i = 0; i < k; ++i) {
      const SampleBatch* batch = next_batch();
      last_of_update_ = i + 1 == k || batch->last_in_epoch;
      micro_step_ = state_.step * k + i;
      forward_backward(*batch, static_cast<double>(samples));
      if (last_of_update_) break;
    }
    words_[kStop] = communicator_.context().stop_requested() ? 1.f : 0.f;
    const Outcome outcome = updater_->finish(info, words_);
    if (k > 1) updater_->exchange().clear_accumulated();
    after_update(outcome, rate, samples);
    profile_.end_step();
  }

  void after_update(const Outcome& outcome, double rate, std::int64_t samples) {
    const PhaseScope reporting(profile_, Phase::other);
    const GradientExchange& exchange = updater_->exchange();
    ++state_.step;
    state_.samples += samples;
    state_.position = data_.position();
    if (outcome.applied) {
      ++state_.applied;
      state_.previous_rate = rate;
      skipped_in_a_row_ = 0;
    } else {
      skip();
    }
    result_.loss = exchange.word(kLoss);
    result_.stopped = exchange.word(kStop) > 0;
    window_samples_ += samples;
    progress_.step(state_.step, samples, result_.loss);
    if (writer_) writer_->poll();
    if (setup_.train.check_replicas) check_replicas();
    if (!is_logged(state_.step)) return;
    log("train/loss", exchange.word(kLoss));
    for (std::size_t m = 0; m < setup_.replica->metric_names().size(); ++m) {
      log("train/" + setup_.replica->metric_names()[m], exchange.word(kMetrics + m));
    }
    log("learning_rate", rate);
    log("gradient_norm", outcome.gradient_norm);
    for (const BucketReport& each : exchange.reports()) log_bucket(each);
    log_speed();
  }

  [[nodiscard]] bool is_logged(std::int64_t step) const { return step % setup_.train.log_every == 0 || step == 1 || step == total_steps_; }

  void log_bucket(const BucketReport& report) {
    const std::string bucket = fmt::format("exchange/bucket_{}/", report.bucket);
    log(bucket + "bytes", report.bytes);
    log(bucket + "ratio", report.ratio);
    log(bucket + "relative_error", report.relative_error);
    log(bucket + "residual_ratio", report.residual_ratio);
  }

  /// Since the last time.
  void log_speed() {
    const double now = profile_.now(), seconds = now - window_began_, flops = setup_.replica->cost().flops;
    if (seconds > 0) {
      log("samples_per_second", static_cast<double>(window_samples_) / seconds);
      log("gflops_per_second", (flops - window_flops_) / seconds / 1e9);      // of rank 0
    }
    if (profile_.steps() > 0) log("step_seconds_p50", profile_.step_quantile(0.5));
    window_began_ = now;
    window_samples_ = 0;
    window_flops_ = flops;
  }

  [[nodiscard]] RankSummary summary() const {
    RankSummary summary = summary_of(profile_);
    const Replica::Cost& cost = setup_.replica->cost();
    summary.set_host(communicator_.context().host);
    summary.samples = cost.samples;
    summary.flops = cost.flops;
    summary.memory = memory_of(*setup_.replica, *setup_.parameters, *updater_);
    summary.memory.batches = data_.batch_bytes() + (validation_ ? validation_->batch_bytes() : 0);
    return summary;
  }

  void skip() {
    ++state_.skipped;
    log("skipped", static_cast<double>(state_.skipped));
    progress_.note(fmt::format("step {}: a gradient is not finite, the update is skipped on all ranks", state_.step));
    if (++skipped_in_a_row_ < setup_.train.max_skipped) return;
    fail(Code::out_of_range, fmt::format("gradients were not finite in {} steps in a row, up to step {}: the run has diverged; try a smaller "
                                         "learning rate or train.clip_norm", skipped_in_a_row_, state_.step));
  }

  /// Replicas that drift apart are a bug of ours or of the machine; found at the step where it happens.
  void check_replicas() {
    std::string bytes;                       // running statistics are each rank's own until they are averaged
    for (std::size_t p = 0; p < setup_.parameters->trained().size(); ++p) {
      const std::vector<float> values = setup_.parameters->value(p).to_vector<float>();
      bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    }
    const auto hashes = communicator_.all_gather_value(stream_of(bytes));
    for (std::size_t r = 1; r < hashes.size(); ++r) {
      if (hashes[r] != hashes[0]) {
        fail(Code::internal, fmt::format("after step {} the parameters of ranks 0 and {} differ", state_.step, r));
      }
    }
  }

  void end_of_epoch(bool last) {
    const std::int64_t epoch = data_.position().epoch;          // of the next sample: as many have ended
    average_statistics(communicator_, *setup_.parameters);
    const bool due = setup_.train.validate_every > 0 && epoch % setup_.train.validate_every == 0;
    bool best = false;
    if (validation_ && !result_.stopped && (due || last)) best = validate(epoch);
    const bool save_due = setup_.checkpoint.every_epochs > 0 && epoch % setup_.checkpoint.every_epochs == 0;
    if (save_due || last || best) save(best);
  }

  /// True if this is the best so far: by accuracy where the model reports it, else by loss.
  bool validate(std::int64_t epoch) {
    const PhaseScope validating(profile_, Phase::validation);
    result_.validation = evaluate(communicator_, *setup_.replica, *validation_);
    const Evaluation& e = *result_.validation;
    const std::string when = data_.position().sample == 0 ? fmt::format("epoch {}", epoch) : fmt::format("step {}", state_.step);
    std::string text = fmt::format("{}: validation loss {:.4f}", when, e.loss);
    log("validation/loss", e.loss);
    double score = -e.loss;
    for (const auto& [name, value] : e.metrics) {
      text += fmt::format(", {} {:.4f}", name, value);
      log("validation/" + name, value);
      if (name == "accuracy") score = value;
    }
    progress_.note(text);
    if (state_.has_best != 0 && score <= state_.best) return false;
    state_.has_best = 1;
    state_.best = score;
    return true;
  }

  void save(bool best) {
    const PhaseScope saving(profile_, Phase::checkpoint);
    average_statistics(communicator_, *setup_.parameters);
    saved_ = true;
    for (const auto& writer : metrics_) writer->flush();
    if (residuals_) residuals_->save(state_.step, best);
    if (writer_) writer_->save(parts_, state_.step, best);
  }

  void close_writer() {
    const PhaseScope saving(profile_, Phase::checkpoint);
    if (residuals_) residuals_->close();
    if (writer_) writer_->close();
  }

  void log(const std::string& name, double value) {
    for (const auto& writer : metrics_) writer->scalar(name, state_.step, value);
  }

  Communicator& communicator_;
  Profile& profile_;
  Setup setup_;
  RunDirectory directory_;
  BatchPipeline data_;
  std::unique_ptr<BatchPipeline> validation_;
  std::unique_ptr<ReplicaSums> sums_;                         // if the model takes statistics over all replicas
  std::unique_ptr<Updater> updater_;
  std::int64_t steps_per_epoch_, total_steps_;
  ProgressLine progress_;
  std::unique_ptr<ResidualFiles> residuals_;                  // if the exchange keeps some
  std::unique_ptr<CheckpointWriter> writer_;                  // rank 0 only, unless the parameters are in parts
  std::vector<std::unique_ptr<MetricsWriter>> metrics_;       // rank 0 only
  TrainerState state_;
  std::array<Stateful*, 2> parts_{&state_, setup_.parameters.get()};
  TrainResult result_;
  std::array<float, GradientExchange::kWords> words_{};
  bool last_of_update_ = false, saved_ = false;
  std::int64_t micro_step_ = 0, skipped_in_a_row_ = 0;
  double window_began_ = 0, window_flops_ = 0;                // since the last metrics
  std::int64_t window_samples_ = 0;
};

}  // namespace

TrainResult train(Communicator& communicator, Section& config, const std::string& resume) {
  return Trainer(communicator, config, resume).run();
}

Evaluation evaluate(Communicator& communicator, Section& config, const std::string& checkpoint) {
  Setup setup(communicator, config);
  check(setup.validation_data != nullptr, Code::invalid_argument, "evaluate needs a [data.validation] section in the job file");
  check_same_model(communicator, setup.replica->graph());
  load_parameters(communicator, setup, checkpoint);
  BatchPipeline data(setup.validation_data, setup.pipeline, communicator.rank(), communicator.size(), BatchUse::evaluation);
  return evaluate(communicator, *setup.replica, data);
}

}  // namespace cohort
