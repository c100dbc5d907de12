#include "tasks/task_training.hpp"

#include <fmt/core.h>

#include <array>
#include <exception>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/comm/control.hpp"
#include "tasks/blocks.hpp"
#include "tasks/task_service.hpp"
#include "tasks/worker.hpp"

namespace cohort {
namespace {

/// Both roles on one rank: the service in a thread of its own. The first error wins, and ends the other.
void serve_beside(TaskService& service, Communicator& communicator, const std::function<void()>& work) {
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
  const PhaseLength length = run.course.length(phase);
  const std::unique_ptr<Aggregation> rules = phase.aggregate(phase.active(run.course.replicas()));
  const std::string backups = rules->in_steps() && rules->per_update() < rules->shares()
                                  ? fmt::format(", the first {} of {} shares count", rules->per_update(), rules->shares()) : "";
  run.out.progress.note(fmt::format("{} parameters on {} parameter task{} ({} blocks), {} worker{}, {}: {} samples per update{}, {} updates per epoch, learning rate "
                                "{:.4g}; gradients in {}, values in {}; writing to {}",
                                setup.parameters->layout().elements(), layout.tasks.size(), layout.tasks.size() == 1 ? "" : "s", setup.cluster.blocks,
                                layout.workers.size(), layout.workers.size() == 1 ? "" : "s", phase.updater, length.update_samples, backups,
                                length.updates_per_epoch, run.course.rate(length, run.state.position), setup.updater.exchange.collective.codec_name,
                                setup.cluster.pull_codec, run.out.directory.path.string()));
  const std::string codec = codec_note(setup.updater.exchange, setup.parameters->layout(), run.course.total_steps());
  if (!codec.empty()) run.out.progress.note(codec);
  if (setup.cluster.print_blocks) run.out.progress.note(blocks_text(setup.parameters->layout(), layout.shards));
}

/// What a worker must know beside the values that it will read.
struct OthersOnly final : Stateful {
  explicit OthersOnly(const Parameters& of) : parameters(of) {}
  void load(StateReader& reader) override {
    for (const Parameters::Other& other : parameters.others()) reader.tensor(other.state_name(), other.value);
  }
  const Parameters& parameters;
};

/// Collective over the run's ranks. `kept`: on the parameter tasks' ranks, which are `tasks`; elsewhere null. The checkpoint's file.
std::filesystem::path resume(Run& run, const Parameters& read, Parameters* kept, Communicator& tasks) {
  OthersOnly others(read);
  const std::array<Stateful*, 2> known_to_all{&others, &run.state}, known_to_tasks{&run.state, kept};
  const CheckpointHeader header = run.checkpoint->load(&run.world, known_to_all, Extra::ignore);
  if (kept != nullptr) run.checkpoint->load(&tasks, known_to_tasks);
  return header.path;
}

/// What error feedback keeps back goes with checkpoints.
void save_residuals_of(Worker& worker, int number, const Run& run, std::optional<ResidualFiles>& files) {
  if (!worker.push().keeps_residuals()) return;
  files.emplace(number, run.course.replicas(), worker.push(), run.out.directory.checkpoints(), run.plan.checkpoint.keep, run.plan.config_text, run.world);
  worker.save_residuals_to(&*files);
}

/// Who may be lost is one agreement of the whole job.
bool survives(const Run& run, const ClusterOptions& cluster) {
  return cluster.survives() && run.world.size() == run.world.context().ranks;
}

void check_setup(const Run& run, const Setup& setup) {
  check(survives(run, setup.cluster) || (setup.cluster.survive != "on" && setup.cluster.replace == 0),
        Code::invalid_argument,
        fmt::format("cluster.survive, cluster.replace: these {} ranks are a group of a job of {}, and only a whole job goes "
                    "on without workers that it loses",
                    run.world.size(), run.world.context().ranks));
  check(setup.cluster.replace == 0 || run.world.context().launches, Code::invalid_argument,
        "cluster.replace: only mpirun starts processes for a job at work, and this job has another launcher or none: leave it out, and go on without "
        "workers that are lost");
  const std::string why_not = run.world.transport().why_one_thread();
  check(setup.cluster.replace == 0 || why_not.empty(), Code::failed_precondition,
        "cluster.replace: a thread waits for a new process while its rank works on, but " + why_not);
  check(!setup.replica->is_joint(), Code::invalid_argument,
        "the model takes statistics over the batches of all replicas, which workers of parameter tasks do not wait for: use local batch norm");
  check(!setup.train.check_replicas, Code::invalid_argument, "train.check_replicas: workers of parameter tasks read values of different versions");
  check(!setup.train.deterministic || run.phase().aggregate(1)->in_steps(), Code::invalid_argument,
        "train.deterministic: asynchronous updates follow the order in which gradients arrive; updater.schedule = \"replay\" repeats one");
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

/// Only workers make batches, and by then the others can do without them: a job file that asks for what the data do not have
/// would look like workers that die one after the other. So every rank tries it first, whatever it is to do.
void check_batches(const Run& run, const Setup& setup) {
  for (const TrainingPhase& phase : run.plan.phases.phases()) {
    PipelineOptions options = phase.batches(run.plan.pipeline, run.course.replicas()).pipeline;
    options.threads = 0;
    const int shares = phase.aggregate(phase.active(run.course.replicas()))->shares();
    static_cast<void>(BatchPipeline(setup.training_data, options, 0, shares));
  }
}

/// A rank with both roles talks to others from two threads.
void check_threads(const Communicator& world, const ClusterOptions& cluster) {
  const std::string why_not = cluster.dedicated() ? "" : world.transport().why_one_thread();
  check(why_not.empty(), Code::failed_precondition,
        "every rank is a worker and, in a thread of its own, a parameter task, but " + why_not +
            ": take dedicated parameter tasks (--set cluster.ps=1), or an MPI library that grants it");
}

}  // namespace

bool train_with_tasks(Run& run) {
  Communicator& world = run.world;
  Setup setup(world, run.plan);
  check_setup(run, setup);
  check_batches(run, setup);
  check_same_model(world, setup.replica->graph());
  const TaskLayout layout(setup.parameters->layout(), setup.cluster, setup.updater.exchange, world.size());
  check_backups(run, setup.cluster, static_cast<int>(layout.workers.size()));
  check_threads(world, setup.cluster);
  const std::optional<int> task = layout.cluster.task_of("ps", world.rank()), worker = layout.cluster.task_of("worker", world.rank());

  Communicator tasks = world.split(task ? 0 : 1), workers = world.split(worker ? 0 : 1);
  Communicator client = world.duplicate(), service = client.twin();
  std::unique_ptr<Parameters> kept;
  if (task) {
    kept = setup.make_parameters();
    kept->keep(setup.replica->session(), layout.shards[static_cast<std::size_t>(*task)]);
  }
  std::filesystem::path checkpoint;
  if (run.out.resumes()) checkpoint = resume(run, *setup.parameters, kept.get(), tasks);
  setup.parameters->place_values_alone(setup.replica->session());
  if (survives(run, setup.cluster)) world.membership()->allow_losses(layout.workers, setup.cluster.heartbeat_timeout);

  run.begin();
  describe(run, setup, layout);
  std::optional<TaskService> served;
  if (task) served.emplace(run, setup, service, tasks, layout, *task, *kept);
  barrier(world);
  bool complete = true;
  std::optional<Worker> works;
  std::optional<ResidualFiles> residuals;
  if (worker) {
    works.emplace(run, setup, client, layout);
    if (!checkpoint.empty()) ResidualFiles::load(workers, works->push(), checkpoint);      // collective: none of them is lost yet
    save_residuals_of(*works, *worker, run, residuals);
  }
  if (task && worker) serve_beside(*served, client, [&] { complete = works->work(); });
  else if (worker) complete = works->work();
  else served->serve();
  if (served) complete = complete && served->complete();
  if (residuals) residuals->close();
  if (works) works->add_to_summary();
  return complete;
}

void train_in_place_of_worker(Run& run, Communicator& parents, const Introduction& told) {
  Setup setup(run.world, run.plan);
  const TaskLayout layout(setup.parameters->layout(), setup.cluster, setup.updater.exchange, run.world.context().ranks);
  told.give_others(*setup.parameters);
  setup.parameters->place_values_alone(setup.replica->session());
  Worker worker(run, setup, parents, layout);
  std::optional<ResidualFiles> residuals;
  save_residuals_of(worker, *layout.cluster.task_of("worker", run.world.context().rank), run, residuals);
  (void)worker.work();
  if (residuals) residuals->close();
}

}  // namespace cohort
