// Training by workers that exist in virtual time only (updater.schedule = "replay"). A learner's gradient is computed when it begins,
// with the values that are current then, and waits in memory of its own until its time has come; then the rules judge it. No
// other gradient is under way in this process meanwhile, so what comes out depends on the seeds alone.
#include "tasks/replay_training.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/tasks/virtual_time.hpp"
#include "tasks/gradient_maker.hpp"
#include "tasks/parameter_store.hpp"
#include "tasks/async_progress.hpp"

namespace cohort {
namespace {

/// Durations, and what of them people want to know.
class Durations {
 public:
  void add(double duration) { all_.push_back(duration); }
  [[nodiscard]] bool empty() const noexcept { return all_.empty(); }
  [[nodiscard]] double mean() const {
    double sum = 0;
    for (const double each : all_) sum += each;
    return sum / static_cast<double>(all_.size());
  }
  /// The least of them that so large a share does not exceed.
  [[nodiscard]] double quantile(double share) const {
    std::vector<double> some = all_;
    const auto at = std::clamp<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(std::ceil(share * static_cast<double>(some.size()))) - 1, 0, std::ssize(some) - 1);
    std::ranges::nth_element(some, some.begin() + at);
    return some[static_cast<std::size_t>(at)];
  }

 private:
  std::vector<double> all_;
};

class Replay {
 public:
  Replay(Run& run, Setup& setup);
  void train();

 private:
  struct Learner {
    std::vector<float> gradient, statistics;
    std::vector<float> kept;                 // statistics, as a worker keeps them for a step that is skipped
    std::int64_t version = -1;               // of the values, that they are of
    Done done;
    bool busy = false;
    std::int64_t clock = 0;                  // gradients that it has completed in this phase
    WorkerCounts before;                     // of earlier phases
  };

  void describe();
  void deal();
  void compute(int learner, const Token& token);
  void judge(int learner);
  void look_for_boundary();
  void pass_boundary();
  [[nodiscard]] bool validate();
  bool save(bool best);
  void enter_phase();
  void average_statistics();
  void put_statistics(const std::vector<float>& statistics);
  void take_statistics(std::vector<float>& statistics);
  void log();
  [[nodiscard]] std::string table() const;

  Run& run_;
  Setup& setup_;
  ParameterStore store_;
  GradientMaker maker_;
  CheckpointWriter writer_;
  std::array<Stateful*, 2> parts_;
  VirtualTime time_;
  std::vector<Learner> learners_;
  std::optional<AsyncProgress> updates_;           // made where the run's position is known
  Boundary due_;
  std::int64_t first_step_ = 0, largest_gap_ = 0;
  double step_began_ = 0;
  Durations steps_;                          // of virtual time, where updates are steps
};

Shard everything(const Parameters& parameters) {
  const FlatRange all{0, parameters.flat_size()};
  return Shard(std::span(&all, 1), 1);
}

/// The parameters get memory in which the session computes and the store updates: nobody has to copy them.
Parameters& placed(Setup& setup) {
  setup.parameters->place(setup.replica->session(), {}, everything(*setup.parameters));
  return *setup.parameters;
}

StoreOptions store_options(const Run& run) {
  return {.workers = run.course.replicas(), .clip_norm = run.plan.train.clip_norm, .compensation = run.phase().aggregate(run.course.replicas())->compensation()};
}

Replay::Replay(Run& run, Setup& setup)
    : run_(run), setup_(setup), store_(placed(setup), *setup.optimizer, setup.replica->session().pool(), run.world, store_options(run)),
      maker_(run, setup, run.world, {}),
      writer_(run.out.directory.checkpoints(), run.plan.checkpoint.keep, run.plan.config_text, run.world.context().log, nullptr, run.world.rank_activity()),
      parts_{&run.state, setup.parameters.get()}, time_(run.plan.replay), learners_(static_cast<std::size_t>(run.course.replicas())) {
  if (run.out.resumes()) (void)run.checkpoint->load(&run.world, parts_);
  store_.start_at(run.state.step);
  for (Learner& learner : learners_) {
    learner.gradient.resize(static_cast<std::size_t>(store_.size()));
    take_statistics(learner.statistics);
  }
}

void Replay::train() {
  run_.begin();
  updates_.emplace(run_, *run_.world.context().clock, setup_.replica->metric_names());
  updates_->on_log([this] { log(); });
  describe();
  first_step_ = run_.state.step;
  time_.begin_at(run_.state.step);
  if (std::exchange(run_.state.validation_due, 0) != 0 && run_.plan.validation_data && validate()) (void)save(true);
  if (run_.ends_at_its_start()) {
    look_for_boundary();
    pass_boundary();
  }
  for (bool ended = run_.over(); !ended;) {
    if (!due_.any()) deal();
    if (!time_.idle()) {
      judge(time_.next());
      continue;
    }
    check(due_.any(), Code::internal, "no learner may begin a gradient, and none is under way");
    due_ |= updates_->boundary();
    pass_boundary();
    ended = run_.over();
  }
  writer_.close();
  maker_.add_to_summary();
  run_.summary.memory.slots = setup_.parameters->slot_bytes();
  run_.summary.memory.communication += store_.bytes() + std::ssize(learners_) * store_.size() * static_cast<std::int64_t>(sizeof(float));
  run_.out.progress.note("\n" + table());
}

void Replay::describe() {
  const TrainingPhase& phase = run_.phase();
  run_.out.progress.note(fmt::format("{} parameters, {} learners in virtual time, {}: {} samples per update, {} updates per epoch, "
                                 "learning rate {:.4g}; writing to {}",
                                 setup_.parameters->elements(), learners_.size(), phase.updater, run_.course.length(phase).update_samples,
                                 run_.course.length(phase).updates_per_epoch, run_.course.rate(run_.course.length(phase), run_.state.position), run_.out.directory.path.string()));
}

/// Work for everybody who has none and may begin.
void Replay::deal() {
  for (int learner = 0; learner < updates_->trains() && !due_.any(); ++learner) {
    if (learners_[static_cast<std::size_t>(learner)].busy || !updates_->wants_more()) continue;
    const std::optional<int> share = updates_->rules().begin(learner);
    if (!share) continue;
    compute(learner, updates_->training(*share));
    if (!updates_->rules().in_steps() && run_.state.position.sample == 0) look_for_boundary();
  }
}

void Replay::compute(int learner, const Token& token) {
  Learner& mine = learners_[static_cast<std::size_t>(learner)];
  run_.world.begin_step(token.step);
  run_.profile.begin_step(token.step + 1);
  {
    const PhaseScope computing(run_.profile, Phase::compute);
    store_.note_read(learner);
    put_statistics(mine.statistics);
    if (token.in_steps == 0 || token.version != mine.version) mine.kept = mine.statistics;
    mine.version = token.version;
    mine.done = maker_.make(token);
    mine.done.read = token.version;
    take_statistics(mine.statistics);
    if (!std::isfinite(mine.done.norm)) mine.statistics = mine.kept;
    const float* const gradient = maker_.memory().owned().front().gradient;
    std::copy_n(gradient, mine.gradient.size(), mine.gradient.begin());
  }
  run_.profile.end_step();
  mine.busy = true;
  time_.start(learner);
}

void Replay::judge(int learner) {
  const PhaseScope updating(run_.profile, Phase::other);
  Learner& mine = learners_[static_cast<std::size_t>(learner)];
  mine.busy = false;
  ++mine.clock;
  std::int64_t least = mine.clock;
  for (int other = 0; other < updates_->trains(); ++other) least = std::min(least, learners_[static_cast<std::size_t>(other)].clock);
  largest_gap_ = std::max(largest_gap_, mine.clock - least);
  LogEntry entry = updates_->judge(learner, mine.done);
  entry.worker = learner;
  StepOutcome outcome;
  if (entry.accepted != 0) store_.accept(learner, mine.gradient.data(), entry.weight);
  if (entry.applies != 0) {
    const StepInfo info{.step = store_.version(), .applied = entry.applied, .learning_rate = entry.rate,
                        .previous_learning_rate = entry.previous_rate};
    outcome = store_.apply(info, entry.sum_scale, entry.in_steps != 0);
    if (entry.in_steps != 0) steps_.add(time_.now() - step_began_);
    step_began_ = time_.now();
  }
  if (!updates_->followed(entry, mine.done, outcome)) return;
  for (Learner& each : learners_) {
    if (!outcome.applied && each.version == mine.done.read) each.statistics = each.kept;
  }
  run_.result.stopped = run_.result.stopped || run_.world.context().stop_requested();
  writer_.poll();
  look_for_boundary();
}

void Replay::look_for_boundary() {
  if (!due_.any()) due_ = updates_->boundary();
}

/// Nothing is under way.
void Replay::pass_boundary() {
  average_statistics();
  if (due_.end) log();
  const bool saved = due_.save() && save(false);           // first: validation may fail
  if (due_.evaluation && validate()) {
    if (saved) writer_.mark_best();
    else (void)save(true);
  } else if (due_.evaluation && run_.result.stopped && !saved) {
    (void)save(false);
  }
  if (!due_.end && updates_->phase_over()) enter_phase();
  due_ = {};
  time_.begin_at(run_.state.step);
  step_began_ = time_.now();
}

bool Replay::validate() {
  const PhaseScope validating(run_.profile, Phase::validation);
  const Done done = maker_.evaluate({.kind = TokenKind::evaluate});
  if (run_.world.context().stop_requested()) {       // it may not have seen all samples: a run that goes on from here validates first
    run_.result.stopped = true;
    return false;
  }
  std::vector<double> sums(done.sums.begin(), done.sums.begin() + static_cast<std::ptrdiff_t>(updates_->evaluation_sums()) - 1);
  sums.insert(sums.begin(), static_cast<double>(done.samples));
  return updates_->take_evaluation(sums);
}

bool Replay::save(bool best) {
  const PhaseScope saving(run_.profile, Phase::checkpoint);
  if (!updates_->may_save(best)) return false;
  if (run_.keeps_all()) {
    writer_.close();
    writer_.keep_all();
  }
  writer_.save(parts_, run_.state.step, best);
  return true;
}

void Replay::enter_phase() {
  for (int learner = 0; learner < updates_->trains(); ++learner) {
    Learner& mine = learners_[static_cast<std::size_t>(learner)];
    const WorkerCounts& counts = updates_->rules().counts()[static_cast<std::size_t>(learner)];
    mine.before.applied += counts.applied, mine.before.dropped += counts.dropped, mine.before.waited += counts.waited;
    mine.clock = 0;
  }
  updates_->enter_phase();
}

// Each learner has running statistics of its own, as a worker has -----------------------------------------------------------------

void Replay::put_statistics(const std::vector<float>& statistics) {
  const float* from = statistics.data();
  maker_.for_each_statistic([&](const Tensor& value) {
    value.copy_from(Tensor::of(value.shape(), std::vector<float>(from, from + value.elements())));
    from += value.elements();
  });
}

void Replay::take_statistics(std::vector<float>& statistics) {
  statistics.clear();
  maker_.for_each_statistic([&](const Tensor& value) {
    const std::vector<float> values = value.to_vector<float>();
    statistics.insert(statistics.end(), values.begin(), values.end());
  });
}

void Replay::average_statistics() {
  std::vector<float> average(learners_.front().statistics.size());
  for (std::size_t i = 0; i < average.size(); ++i) {
    double sum = 0;
    for (int learner = 0; learner < updates_->trains(); ++learner) sum += learners_[static_cast<std::size_t>(learner)].statistics[i];
    average[i] = static_cast<float>(sum / updates_->trains());
  }
  for (Learner& learner : learners_) learner.statistics = average;
  put_statistics(average);
}

// What people are told ---------------------------------------------------------------------------------------------------------

void Replay::log() {
  for (int learner = 0; learner < updates_->trains(); ++learner) {
    updates_->log_counts(static_cast<std::size_t>(learner), updates_->rules().counts()[static_cast<std::size_t>(learner)]);
  }
  const double now = time_.now();
  run_.out.metrics.log("virtual_time", now);
  if (now > 0) run_.out.metrics.log("updates_per_virtual_time", static_cast<double>(run_.state.step - first_step_) / now);
  run_.out.metrics.log("largest_gap", static_cast<double>(largest_gap_));
  if (!due_.end || steps_.empty()) return;
  run_.out.metrics.log("virtual_step/mean", steps_.mean());
  run_.out.metrics.log("virtual_step/p50", steps_.quantile(0.5));
  run_.out.metrics.log("virtual_step/p95", steps_.quantile(0.95));
}

std::string Replay::table() const {
  std::vector<WorkerLine> lines;
  for (std::size_t learner = 0; learner < learners_.size(); ++learner) {
    WorkerLine line{.counts = learners_[learner].before};
    if (static_cast<int>(learner) < updates_->trains()) {
      const WorkerCounts& more = updates_->rules().counts()[learner];
      line.counts.applied += more.applied, line.counts.dropped += more.dropped, line.counts.waited += more.waited;
    }
    lines.push_back(line);
  }
  std::string text = updates_->table(lines);
  const double now = time_.now();
  text += fmt::format("\nvirtual time {:.2f} (the mean time of a gradient is 1), {:.4f} updates per unit, largest gap between learners {} gradients", now,
                      now > 0 ? static_cast<double>(run_.state.step - first_step_) / now : 0, largest_gap_);
  if (!steps_.empty()) {
    text += fmt::format("\nvirtual time of a step: mean {:.4f}, p50 {:.4f}, p95 {:.4f}", steps_.mean(), steps_.quantile(0.5), steps_.quantile(0.95));
  }
  return text;
}

void refuse(const Run& run, const Setup& setup) {
  const auto refused = [](bool ok, const std::string& why) { check(ok, Code::invalid_argument, "updater.schedule = \"replay\": " + why); };
  refused(run.world.size() == 1, fmt::format("one process computes the gradients of all learners, the job has {} ranks", run.world.size()));
  refused(!run.plan.cluster.dedicated() && run.plan.cluster.worker == 0,
          "there are no parameter tasks and no workers; updater.replay.learners says how many there would be");
  refused(setup.updater.exchange.collective.codec_name == "fp32" && run.plan.cluster.pull_codec == "fp32", "nothing is sent that a codec could encode");
  refused(!setup.replica->is_joint(),
          "the model takes statistics over the batches of all replicas, which workers do not wait for: use local batch norm");
  const DeviceInfo& device = setup.replica->session().device().info();
  refused(device.host_accessible && device.kernels == "CPU", "needs a device whose memory the host can reach");
}

}  // namespace

bool train_replay(Run& run) {
  Setup setup(run.world, run.plan);
  refuse(run, setup);
  Replay(run, setup).train();
  return true;
}

}  // namespace cohort
