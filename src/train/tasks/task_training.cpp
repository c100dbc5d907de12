#include "train/tasks/task_training.hpp"

#include <fmt/core.h>

#include <array>
#include <exception>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "cohort/train/checkpoint.hpp"
#include "train/tasks/blocks.hpp"
#include "train/tasks/parameter_task.hpp"
#include "train/tasks/token_task.hpp"
#include "train/tasks/worker.hpp"

namespace cohort {
namespace {

constexpr double kFlush = 5;                 // seconds for the last messages, which everybody waits for

/// A parameter task of this rank, with the token task if that is here too.
class Service {
 public:
  /// Collective over the parameter tasks' ranks, after the layout is known. `kept` is placed.
  Service(Run& run, Setup& setup, Communicator& service, Communicator& tasks, const TaskLayout& layout, int task, Parameters& kept)
      : run_(run), service_(service), dedicated_(setup.cluster.dedicated()),
        pool_(setup.cluster.dedicated() ? setup.replica->session().pool().threads() : 1), kept_(kept),
        store_(kept, *setup.optimizer, pool_, tasks, options(run, layout)), task_(service, layout, task, store_), parts_{&run.state, &kept} {
    store_.start_at(run.state.step);
    writer_.emplace(run.directory.checkpoints(), run.plan.checkpoint.keep, run.plan.config_text, service.context().log, tasks.size() > 1 ? &tasks : nullptr);
    task_.on_save([this](std::int64_t step, bool best) { writer_->save(parts_, step, best); });
    if (task != 0) return;
    token_.emplace(run, service, layout, task_, kept, setup.replica->metric_names());
    task_.on_arrival([this](int worker, std::int64_t gradient) { token_->arrived(worker, gradient); });
  }

  void serve() {
    Backoff backoff(*service_.context().clock);
    while (!task_.ended()) {
      service_.cancel_flag()->throw_if_set();
      bool moved = task_.turn();
      if (token_) moved = token_->turn() || moved;
      begin_step();
      writer_->poll();
      if (moved) backoff.reset();
      else backoff.pause();
    }
    flush();
    writer_->close();
    run_.summary.memory.parameters = kept_.value_bytes();
    run_.summary.memory.slots = kept_.slot_bytes();
    run_.summary.memory.communication += task_.bytes();
    if (!token_) return;
    run_.progress.note("\n" + token_->table());
    for (int worker = 0; worker < run_.replicas; ++worker) run_.result.workers.push_back(token_->counts(worker));
    run_.result.lost = service_.membership()->losses();
  }
  [[nodiscard]] bool complete() const noexcept { return task_.complete(); }

 private:
  /// Where this rank has no worker that does: a step begins with what has been applied.
  void begin_step() {
    if (!dedicated_ || store_.version() == step_) return;
    step_ = store_.version();
    service_.begin_step(step_);
  }
  static StoreOptions options(const Run& run, const TaskLayout& layout) {
    const int workers = static_cast<int>(layout.workers.size());
    return {.workers = workers, .clip_norm = run.plan.train.clip_norm, .compensation = run.phase().aggregate(workers)->compensation()};
  }
  void flush() {
    Backoff backoff(*service_.context().clock);
    const double until = service_.context().clock->now() + kFlush;
    while (service_.context().clock->now() < until) {
      const bool mine = task_.flushed(), tokens = !token_ || token_->flushed();
      if (mine && tokens) return;
      backoff.pause();
    }
  }

  Run& run_;
  Communicator& service_;
  bool dedicated_;
  std::int64_t step_ = -1;
  ThreadPool pool_;
  Parameters& kept_;
  ParameterStore store_;
  ParameterTask task_;
  std::array<Stateful*, 2> parts_;
  std::optional<TokenTask> token_;
  std::optional<CheckpointWriter> writer_;
};

/// Both roles on one rank: the service in a thread of its own. The first error wins, and ends the other.
void serve_beside(Service& service, Communicator& communicator, const std::function<void()>& work) {
  std::mutex mutex;
  std::exception_ptr first;
  const auto run = [&](const std::function<void()>& role) {
    try {
      role();
    } catch (const std::exception& error) {    // the root of a thread, or what the other must hear of before this one leaves
      const std::lock_guard lock(mutex);
      if (!first) first = std::current_exception();
      communicator.cancel_flag()->set(error.what());
    }
  };
  {
    const std::jthread thread([&] { run([&] { service.serve(); }); });
    run(work);
  }
  if (first) std::rethrow_exception(first);
}

void describe(Run& run, const Setup& setup, const TaskLayout& layout) {
  const TrainingPhase& phase = run.phase();
  const PhaseLength length = run.length(phase);
  const std::unique_ptr<Aggregation> rules = phase.aggregate(phase.active(run.replicas));
  const std::string backups = rules->in_steps() && rules->per_update() < rules->shares()
                                  ? fmt::format(", the first {} of {} shares count", rules->per_update(), rules->shares()) : "";
  run.progress.note(fmt::format("{} parameters on {} parameter task{} ({} blocks), {} worker{}, {}: {} samples per update{}, {} updates per epoch, learning rate "
                                "{:.4g}; gradients in {}, values in {}; writing to {}",
                                setup.parameters->elements(), layout.tasks.size(), layout.tasks.size() == 1 ? "" : "s", setup.cluster.blocks,
                                layout.workers.size(), layout.workers.size() == 1 ? "" : "s", phase.updater, length.update_samples, backups,
                                length.updates_per_epoch, run.rate(length, run.state.position), setup.updater.exchange.collective.codec_name,
                                setup.cluster.pull_codec, run.directory.path.string()));
  if (setup.cluster.print_blocks) run.progress.note(blocks_text(*setup.parameters, layout.shards));
}

/// What a worker must know beside the values that it will read.
struct OthersOnly final : Stateful {
  explicit OthersOnly(const Parameters& of) : parameters(of) {}
  void visit(StateVisitor& visitor) override { parameters.visit_others(visitor); }
  const Parameters& parameters;
};

/// The checkpoint's file.
std::filesystem::path resume(Run& run, const Parameters& read, Parameters* kept) {
  OthersOnly others(read);
  Stateful* const first = &others;
  (void)load_checkpoint(run.directory.resume_from, std::span(&first, 1), Extra::ignore);
  const std::array<Stateful*, 2> parts{&run.state, kept};
  return load_checkpoint(run.directory.resume_from, std::span(parts).first(kept != nullptr ? 2 : 1), kept != nullptr ? Extra::refuse : Extra::ignore).path;
}

/// Collective over the workers, before any of them may be lost.
void prepare_residuals(Run& run, Communicator& workers, const std::filesystem::path& checkpoint, Worker& worker, std::optional<ResidualFiles>& files) {
  if (!checkpoint.empty()) ResidualFiles::load(workers, worker.push(), checkpoint);
  if (!worker.push().keeps_residuals()) return;
  files.emplace(workers, worker.push(), run.directory.checkpoints(), run.plan.checkpoint.keep, run.plan.config_text);
  worker.save_residuals_to(&*files);
}

void check_backups(const Run& run, const ClusterOptions& cluster, int workers) {
  for (const TrainingPhase& phase : run.plan.phases.phases()) {
    const std::unique_ptr<Aggregation> rules = phase.aggregate(phase.active(workers));
    check(!run.plan.train.deterministic || rules->per_update() <= rules->present(), Code::invalid_argument,
          "train.deterministic: gradients of an update are summed in the order of workers, which needs one of each at most");
    check(cluster.dedicated() || !rules->in_steps() || rules->per_update() >= rules->present(), Code::invalid_argument,
          fmt::format("updater.replicas_to_aggregate = {} of {} workers: backups need dedicated parameter tasks (cluster.ps at least 1), since a slow rank "
                      "would hold up the share of the parameters that it keeps", rules->per_update(), rules->present()));
  }
}

}  // namespace

bool train_with_tasks(Run& run) {
  Communicator& world = run.world;
  Setup setup(world, run.plan);
  check(!setup.replica->is_joint(), Code::invalid_argument,
        "the model takes statistics over the batches of all replicas, which workers of parameter tasks do not wait for: use local batch norm");
  check(!setup.train.check_replicas, Code::invalid_argument, "train.check_replicas: workers of parameter tasks read values of different versions");
  check_same_model(world, setup.replica->graph());
  check(!setup.train.deterministic || run.phase().aggregate(1)->in_steps(), Code::invalid_argument,
        "train.deterministic: asynchronous updates follow the order in which gradients arrive; updater.schedule = \"replay\" repeats one");
  const TaskLayout layout(*setup.parameters, setup.cluster, setup.updater.exchange, world.size());
  check_backups(run, setup.cluster, static_cast<int>(layout.workers.size()));
  const std::optional<int> task = layout.cluster.task_of("ps", world.rank()), worker = layout.cluster.task_of("worker", world.rank());

  Communicator alone = world.split(world.rank());
  Communicator tasks = world.split(task ? 0 : 1), workers = world.split(worker ? 0 : 1);
  Communicator client = world.duplicate(), service = client.twin();
  std::unique_ptr<Parameters> kept;
  if (task) {
    kept = setup.make_parameters();
    kept->keep(setup.replica->session(), layout.shards[static_cast<std::size_t>(*task)]);
  }
  std::filesystem::path checkpoint;
  if (run.resumes()) checkpoint = resume(run, *setup.parameters, kept.get());
  setup.parameters->place_values_alone(setup.replica->session());
  if (setup.cluster.survives()) world.membership()->allow_losses(layout.workers, setup.cluster.heartbeat_timeout);

  run.begin();
  describe(run, setup, layout);
  std::optional<Service> served;
  if (task) served.emplace(run, setup, service, tasks, layout, *task, *kept);
  world.barrier();
  bool complete = true;
  std::optional<Worker> works;
  std::optional<ResidualFiles> residuals;
  if (worker) {
    works.emplace(run, setup, client, alone, layout);
    prepare_residuals(run, workers, checkpoint, *works, residuals);
  }
  if (task && worker) serve_beside(*served, client, [&] { complete = works->work(); });
  else if (worker) complete = works->work();
  else served->serve();
  if (served) complete = complete && served->complete();
  if (residuals) residuals->close();
  if (works) works->add_to_summary();
  return complete;
}

}  // namespace cohort
