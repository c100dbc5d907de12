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
#include "tasks/async_progress.hpp"
#include "tasks/gradient_worker.hpp"
#include "tasks/parameter_store.hpp"
#include "tasks/running_statistics.hpp"
#include "tasks/virtual_report.hpp"

namespace cohort {
namespace {

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
  void log();
  [[nodiscard]] std::string table();

  Run& run_;
  Setup& setup_;
  ParameterStore store_;
  GradientWorker gradients_;
  RunningStatistics statistics_;
  CheckpointWriter writer_;
  std::array<Stateful*, 2> parts_;
  VirtualTime time_;
  std::vector<Learner> learners_;
  std::optional<AsyncProgress> progress_;    // made where the run's position is known
  Boundary due_;
  VirtualReport report_;
};

Shard everything(const ParameterLayout& layout) {
  const FlatRange all{0, layout.flat_size()};
  return Shard(std::span(&all, 1), 1);
}

/// The parameters get memory in which the session computes and the store updates: nobody has to copy them.
Parameters& placed(Setup& setup) {
  setup.parameters->place(setup.replica->session(), {}, everything(setup.parameters->layout()));
  return *setup.parameters;
}

StoreOptions store_options(const Run& run) {
  const int learners = run.course.replicas();
  return {.workers = learners, .clip_norm = run.plan.train.clip_norm, .compensation = run.phase().aggregate(learners)->compensation()};
}

Replay::Replay(Run& run, Setup& setup)
    : run_(run), setup_(setup), store_(placed(setup), *setup.optimizer, setup.replica->session().pool(), run.world, store_options(run)),
      gradients_(run, setup, {}), statistics_(*setup.parameters),
      writer_(run.out.directory.checkpoints(), run.plan.checkpoint.keep, run.plan.config_text, run.world.context().log, nullptr, run.world.rank_activity()),
      parts_{&run.state, setup.parameters.get()}, time_(run.plan.replay), learners_(static_cast<std::size_t>(run.course.replicas())) {
  if (run.out.resumes()) (void)run.checkpoint->load(&run.world, parts_);
  store_.start_at(run.state.step);
  for (Learner& learner : learners_) {
    learner.gradient.resize(static_cast<std::size_t>(store_.size()));
    statistics_.read(learner.statistics);
  }
}

void Replay::train() {
  run_.begin();
  progress_.emplace(run_, *run_.world.context().clock, setup_.replica->metric_names());
  progress_->on_log([this] { log(); });
  describe();
  report_.begin(run_.state.step);
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
    due_ |= progress_->boundary();
    pass_boundary();
    ended = run_.over();
  }
  writer_.close();
  gradients_.add_to_summary();
  run_.summary.memory.slots = setup_.parameters->slot_bytes();
  run_.summary.memory.communication += store_.bytes() + std::ssize(learners_) * store_.size() * static_cast<std::int64_t>(sizeof(float));
  run_.out.progress.note("\n" + table());
}

void Replay::describe() {
  const TrainingPhase& phase = run_.phase();
  const PhaseLength length = run_.course.length(phase);
  run_.out.progress.note(fmt::format("{} parameters, {} learners in virtual time, {}: {} samples per update, {} updates per epoch, "
                                     "learning rate {:.4g}; writing to {}",
                                     setup_.parameters->layout().elements(), learners_.size(), phase.updater, length.update_samples, length.updates_per_epoch,
                                     run_.course.rate(length, run_.state.position), run_.out.directory.path.string()));
}

/// Work for everybody who has none and may begin.
void Replay::deal() {
  for (int learner = 0; learner < progress_->plan().trains() && !due_.any(); ++learner) {
    if (learners_[static_cast<std::size_t>(learner)].busy || !progress_->plan().wants_more()) continue;
    const std::optional<int> share = progress_->plan().rules().begin(learner);
    if (!share) continue;
    compute(learner, progress_->plan().training(*share));
    if (!progress_->plan().rules().in_steps() && run_.state.position.sample == 0) look_for_boundary();
  }
}

void Replay::compute(int learner, const Token& token) {
  Learner& mine = learners_[static_cast<std::size_t>(learner)];
  run_.world.begin_step(token.step);
  run_.profile.begin_step(token.step + 1);
  {
    const PhaseScope computing(run_.profile, Phase::compute);
    store_.note_read(learner);
    statistics_.write(mine.statistics);
    if (token.in_steps == 0 || token.version != mine.version) mine.kept = mine.statistics;
    mine.version = token.version;
    mine.done = gradients_.make(token);
    mine.done.read = token.version;
    statistics_.read(mine.statistics);
    if (!std::isfinite(mine.done.norm)) mine.statistics = mine.kept;
    const float* const gradient = gradients_.memory().ranges().front().gradient;
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
  for (int other = 0; other < progress_->plan().trains(); ++other) least = std::min(least, learners_[static_cast<std::size_t>(other)].clock);
  report_.see_gap(mine.clock - least);
  LogEntry entry = progress_->judge(learner, mine.done);
  entry.worker = learner;
  StepOutcome outcome;
  if (entry.accepted != 0) store_.accept(learner, mine.gradient.data(), entry.weight);
  if (entry.applies != 0) {
    const StepInfo info{.step = store_.version(), .applied = entry.applied, .learning_rate = entry.rate,
                        .previous_learning_rate = entry.previous_rate};
    outcome = store_.apply(info, entry.sum_scale, entry.in_steps != 0);
    report_.begin_step(time_.now(), entry.in_steps != 0);
  }
  if (!progress_->followed(entry, mine.done, outcome)) return;
  for (Learner& each : learners_) {
    if (!outcome.applied && each.version == mine.done.read) each.statistics = each.kept;
  }
  run_.result.stopped = run_.result.stopped || run_.world.context().stop_requested();
  writer_.poll();
  look_for_boundary();
}

void Replay::look_for_boundary() {
  if (!due_.any()) due_ = progress_->boundary();
}

/// Nothing is under way.
void Replay::pass_boundary() {
  StatisticsMean mean(statistics_.elements());           // each learner has running statistics of its own, as a worker has
  for (int learner = 0; learner < progress_->plan().trains(); ++learner) mean.add(learners_[static_cast<std::size_t>(learner)].statistics);
  const std::vector<float> average = mean.mean();
  for (Learner& learner : learners_) learner.statistics = average;
  statistics_.write(average);
  if (due_.end) log();
  const bool saved = due_.save() && save(false);           // first: validation may fail
  if (due_.evaluation && validate()) {
    if (saved) writer_.mark_best();
    else (void)save(true);
  } else if (due_.evaluation && run_.result.stopped && !saved) {
    (void)save(false);
  }
  if (!due_.end && progress_->plan().phase_over()) enter_phase();
  due_ = {};
  time_.begin_at(run_.state.step);
  report_.begin_step(time_.now());
}

bool Replay::validate() {
  const PhaseScope validating(run_.profile, Phase::validation);
  const Done done = gradients_.evaluate({.kind = TokenKind::evaluate});
  if (run_.world.context().stop_requested()) {       // it may not have seen all samples: a run that goes on from here validates first
    run_.result.stopped = true;
    return false;
  }
  std::vector<double> sums(done.sums.begin(), done.sums.begin() + static_cast<std::ptrdiff_t>(progress_->evaluation_sums()) - 1);
  sums.insert(sums.begin(), static_cast<double>(done.samples));
  return progress_->take_evaluation(sums);
}

bool Replay::save(bool best) {
  const PhaseScope saving(run_.profile, Phase::checkpoint);
  if (!progress_->may_save(best)) return false;
  if (run_.keeps_all()) {
    writer_.close();
    writer_.keep_all();
  }
  writer_.save(parts_, run_.state.step, best);
  return true;
}

void Replay::enter_phase() {
  for (int learner = 0; learner < progress_->plan().trains(); ++learner) {
    Learner& mine = learners_[static_cast<std::size_t>(learner)];
    const WorkerCounts& counts = progress_->plan().rules().counts()[static_cast<std::size_t>(learner)];
    mine.before.applied += counts.applied, mine.before.dropped += counts.dropped, mine.before.waited += counts.waited;
    mine.clock = 0;
  }
  progress_->enter_phase();
}

// What people are told ---------------------------------------------------------------------------------------------------------

void Replay::log() {
  for (int learner = 0; learner < progress_->plan().trains(); ++learner) {
    log_counts(run_.out.metrics, static_cast<std::size_t>(learner), progress_->plan().rules().counts()[static_cast<std::size_t>(learner)]);
  }
  report_.log(run_.out.metrics, time_.now(), run_.state.step, due_.end);
}

std::string Replay::table() {
  std::vector<WorkerLine> lines;
  for (std::size_t learner = 0; learner < learners_.size(); ++learner) {
    WorkerLine line{.counts = learners_[learner].before};
    if (static_cast<int>(learner) < progress_->plan().trains()) {
      const WorkerCounts& more = progress_->plan().rules().counts()[learner];
      line.counts.applied += more.applied, line.counts.dropped += more.dropped, line.counts.waited += more.waited;
    }
    lines.push_back(line);
  }
  return progress_->table(lines) + "\n" + report_.text(time_.now(), run_.state.step);
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
