// How much of a connection do a parameter task and its workers use? Workers push gradients and pull values as fast as they can;
// every gradient is an update by plain SGD. The yardstick, in turns with it: the same bytes in messages of the same length between
// the task's rank and the workers, both ways at once, with nothing done about them.
//
//   mpirun -n 2 parameter_task_benchmark [--tasks 1] [--kib 16384] [--piece-kib 1024] [--rounds 9] [--updates 20] [--codec fp32]
//
// --kib: what each task keeps; --piece-kib: the blocks in which it travels. The first ranks are tasks. Medians over
// the rounds; a rate is bytes of gradients and values together.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

#include "cohort/comm/control.hpp"
#include "cohort/comm/environment.hpp"
#include "cohort/exec/session.hpp"
#include "tasks/gradient_push.hpp"
#include "tasks/parameter_task.hpp"
#include "tasks/value_pull.hpp"

namespace cohort {
namespace {

constexpr int kYardstick = 500, kStop = 501;          // tags
constexpr std::size_t kBeyondCaches = 64u << 20;      // bytes

struct Settings {
  int tasks = 1, rounds = 9, updates = 20;
  std::int64_t kib = 16384, piece_kib = 1024;
  std::string codec = "fp32";
};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

ExchangeOptions in_one_bucket() {
  ExchangeOptions options;
  options.first_bucket_mib = options.bucket_mib = 1e9;
  return options;
}

class Measured {
 public:
  Measured(Communicator& world, const Settings& settings) : world_(world), settings_(settings) {
    const std::int64_t n = settings.kib * 256 * settings.tasks;
    (void)graph_.variable("weights", Shape{n}, "zeros");
    session_.emplace(graph_, SessionOptions{});
    Section sgd("optimizer");
    optimizer_ = make_optimizer(sgd);
    const ParameterLayout places(graph_, [](auto names, auto) { return std::vector<ParameterGroup>(names.size()); });
    parameters_.emplace(*session_, places, optimizer_->slots());
    ClusterOptions cluster;
    cluster.ps = settings.tasks;
    cluster.piece_mib = static_cast<double>(settings.piece_kib) / 1024;
    ExchangeOptions exchange = in_one_bucket();
    exchange.collective.codec_name = settings.codec;
    exchange.dense_steps = 0;
    layout_.emplace(places, cluster, exchange, world.size());
    tasks_.emplace(world.split(is_task() ? 0 : 1));
    if (is_task()) {
      kept_.emplace(*session_, places, optimizer_->slots());
      kept_->keep(*session_, layout_->shards[static_cast<std::size_t>(world.rank())]);
      store_.emplace(*kept_, *optimizer_, session_->pool(), *tasks_, StoreOptions{.workers = world.size() - settings.tasks});
      task_.emplace(world, *layout_, world.rank(), *store_);
      task_->on_arrival([this](int worker, std::int64_t gradient) {
        (void)task_->follow({.worker = worker, .gradient = gradient, .accepted = 1, .applies = 1, .weight = 1, .sum_scale = 1, .rate = 0.1, .previous_rate = 0.1});
      });
      return;
    }
    parameters_->place_values_alone(*session_);
    gradients_.emplace(parameters_->layout(), session_->device(), std::array{FlatRange{0, places.flat_size()}});
    push_.emplace(world, *layout_, parameters_->layout(), *gradients_, session_->device());
    pull_.emplace(world, *layout_, *parameters_, session_->device());
  }
  [[nodiscard]] bool is_task() const { return world_.rank() < settings_.tasks; }
  [[nodiscard]] int workers() const { return world_.size() - settings_.tasks; }

  /// Seconds, of the slowest.
  double updates() {
    barrier(world_);
    const double start = world_.context().clock->now();
    if (is_task()) {
      const std::int64_t until = store_->version() + std::int64_t{settings_.updates} * workers();
      Backoff backoff(*world_.context().clock);
      while (store_->version() < until || !idle()) {
        if (task_->turn()) backoff.reset();
        else backoff.pause();
      }
    } else {
      for (int i = 0; i < settings_.updates; ++i, ++step_) {
        pull_->fetch(pull_->newest() + 1);
        push_->begin(step_);
        push_->ready(0);
        (void)push_->finish();
      }
      world_.wait(WaitStatus{.operation = "last push"}, [&] { return push_->poll(); });
      for (int task = 0; task < settings_.tasks; ++task) {
        Transfer end(world_.transport());
        end.send(task, kStop, nullptr, 0);
        world_.wait(WaitStatus{.operation = "end"}, [&] { return end.done(); });
      }
    }
    return all_reduce(world_, world_.context().clock->now() - start, Reduce::max);
  }

  /// The same bytes, both ways at once.
  double transfers() {
    const std::size_t piece = static_cast<std::size_t>(settings_.piece_kib) << 10, bytes = static_cast<std::size_t>(settings_.kib) << 10;
    const std::size_t pieces = (bytes + piece - 1) / piece;
    std::vector<int> peers;
    for (int rank = is_task() ? settings_.tasks : 0; rank < (is_task() ? world_.size() : settings_.tasks); ++rank) peers.push_back(rank);
    // Gradients are new every time, so what is sent here must not be in the receiver's cache either.
    const std::size_t turns = std::max<std::size_t>(1, kBeyondCaches / bytes);
    out_.resize(bytes * peers.size() * turns);
    in_.resize(out_.size());
    std::vector<Transfer> transfers;
    for (std::size_t i = 0; i < 2 * pieces * peers.size(); ++i) transfers.emplace_back(world_.transport());
    barrier(world_);
    const double start = world_.context().clock->now();
    for (int i = 0; i < settings_.updates; ++i) {
      std::size_t t = 0, from = bytes * peers.size() * (static_cast<std::size_t>(i) % turns);
      for (std::size_t p = 0; p < peers.size(); ++p) {
        for (std::size_t at = 0; at < bytes; at += piece) {
          const std::size_t n = std::min(piece, bytes - at);
          transfers[t++].receive(peers[p], kYardstick, in_.data() + from + p * bytes + at, n);
          transfers[t++].send(peers[p], kYardstick, out_.data() + from + p * bytes + at, n);
        }
      }
      world_.wait(WaitStatus{.operation = "transfers"}, [&] { return std::ranges::all_of(transfers, [](Transfer& each) { return each.done(); }); });
    }
    return all_reduce(world_, world_.context().clock->now() - start, Reduce::max);
  }

 private:
  /// All workers have said that they have what they asked for.
  bool idle() {
    if (ends_.empty()) {
      for (int rank = settings_.tasks; rank < world_.size(); ++rank) {
        ends_.emplace_back(world_.transport());
        ends_.back().receive(rank, kStop, nullptr, 0);
      }
    }
    if (!std::ranges::all_of(ends_, [](Transfer& each) { return each.done(); })) return false;
    ends_.clear();
    return true;
  }

  Communicator& world_;
  Settings settings_;
  Graph graph_;
  std::optional<Session> session_;
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<Parameters> parameters_, kept_;
  std::optional<TaskLayout> layout_;
  std::optional<Communicator> tasks_;
  std::optional<ParameterStore> store_;
  std::optional<ParameterTask> task_;
  std::optional<GradientStore> gradients_;
  std::optional<GradientPush> push_;
  std::optional<ValuePull> pull_;
  std::vector<Transfer> ends_;
  std::vector<std::byte> in_, out_;
  std::int64_t step_ = 0;
};

Settings settings_of(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--tasks") settings.tasks = std::atoi(value.c_str());
    else if (name == "--rounds") settings.rounds = std::atoi(value.c_str());
    else if (name == "--updates") settings.updates = std::atoi(value.c_str());
    else if (name == "--kib") settings.kib = std::atoi(value.c_str());
    else if (name == "--piece-kib") settings.piece_kib = std::atoi(value.c_str());
    else if (name == "--codec") settings.codec = value;
    else fail(Code::invalid_argument, "unknown option " + name);
  }
  return settings;
}

void run(Communicator& world, const Settings& settings) {
  check(settings.tasks >= 1 && world.size() > settings.tasks, Code::invalid_argument, "more ranks than parameter tasks are needed");
  Measured measured(world, settings);
  std::vector<double> by_tasks, by_transport, ratios;
  const double bytes = 2.0 * static_cast<double>(settings.kib << 10) * settings.tasks * settings.updates * measured.workers();
  for (int round = 0; round <= settings.rounds; ++round) {
    const double updates = bytes / measured.updates() / 1e6, transfers = bytes / measured.transfers() / 1e6;
    if (round == 0) continue;               // warm
    by_tasks.push_back(updates);
    by_transport.push_back(transfers);
    ratios.push_back(updates / transfers);
  }
  if (world.rank() != 0) return;
  fmt::print("{} parameter tasks of {} KiB, {} workers, {}: {:.1f} MB/s of gradients and values, transport {:.1f} MB/s, ratio {:.2f} [{:.2f}, {:.2f}]\n",
             settings.tasks, settings.kib, measured.workers(), settings.codec, median(by_tasks), median(by_transport), median(ratios),
             *std::ranges::min_element(ratios), *std::ranges::max_element(ratios));
}

}  // namespace
}  // namespace cohort

int main(int argc, char** argv) {
  try {
    const cohort::Environment environment;
    cohort::Communicator world = environment.world(cohort::Context());
    cohort::run(world, cohort::settings_of(argc, argv));
    return 0;
  } catch (const std::exception& error) {   // the root of the program
    fmt::print(stderr, "{}\n", error.what());
    cohort::abort_job(1);
  }
}
