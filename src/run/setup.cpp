#include "run/setup.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "base/about.hpp"
#include "checkpoint/open_checkpoint.hpp"
#include "cohort/base/cores.hpp"
#include "cohort/base/random.hpp"
#include "cohort/comm/control.hpp"
#include "run/class_names.hpp"

namespace cohort {
namespace {

/// Collective. This rank's share of the cores, whether the launcher bound ranks to cores of their own or not.
int cores_of(Communicator& communicator) {
  const std::vector<int> mine = available_cores();
  const std::vector<std::string> texts =
      all_gather(communicator, {reinterpret_cast<const char*>(mine.data()), mine.size() * sizeof(int)});
  std::vector<std::vector<int>> neighbours;
  for (const int rank : communicator.nodes().ranks_of(communicator.nodes().node_of(communicator.rank()))) {
    const std::string& bytes = texts[static_cast<std::size_t>(rank)];
    std::memcpy(neighbours.emplace_back(bytes.size() / sizeof(int)).data(), bytes.data(), bytes.size());
  }
  return fair_share(mine, neighbours);
}

/// Collective. Empty if the ranks of a machine can keep one copy of the parameters, else why not; the same on all ranks.
std::string why_no_group(const Setup& setup, Communicator& communicator, const Device& device) {
  const ExchangeOptions& exchange = setup.updater.exchange;
  const CollectiveOptions& collective = exchange.collective;
  if (!exchange.shared_parameters) return "exchange.shared_parameters = false";
  const UpdaterType* const updater = Registry<UpdaterType>::instance().find(setup.train.updater);     // null: workers send gradients
  if (updater == nullptr || !updater->shared_parameters) return "updater " + setup.train.updater;
  const auto* const named = Registry<CollectiveType>::instance().find(collective.algorithm);      // null: auto
  if (named != nullptr && !named->node_memory) return "exchange.algorithm = \"" + collective.algorithm + "\"";
  if (collective.rank_order && communicator.nodes().nodes() > 1) return "sums in rank order run over the machines";
  return NodeGroup::why_not(communicator, device);
}

bool wants_thread(const std::string& option, const Device& device, int cores, int threads) {
  if (option != "auto") return option == "on";
  return cores > threads && device.info().host_accessible;
}

Precision precision_of(const std::string& name) {
  if (name == "fp32") return Precision::fp32;
  return name == "bf16" ? Precision::bf16 : Precision::bf16_native;
}

/// The keys that are given in a section: "(type = "mlp", hidden = [64])".
std::string given_in(const Section& section) {
  std::string given;
  for (const Section::Bound& option : section.bound()) {
    if (option.given) given += (given.empty() ? "" : ", ") + option.key + " = " + option.value;
  }
  return given.empty() ? "(all by default)" : "(" + given + ")";
}

/// What the builder has to say against the model names the keys that made it so.
ModelBuilder model_of(Section& section) {
  const auto& known = Registry<ModelType>::instance();
  std::string type = "mlp";
  section.bind("type", type, "which network", one_of(known.names()));
  ModelBuilder build = known.get(type).make(section);
  return [build = std::move(build), what = section.path() + " " + given_in(section)](Graph& graph, const Batch& batch) {
    return about(what, [&] { return build(graph, batch); });
  };
}

}  // namespace

std::shared_ptr<const Reader> open_data(Section& section) {
  std::shared_ptr<const Reader> reader;
  try {
    reader = open_reader(section);
  } catch (const std::exception& error) {   // what names no key gets all of them: what a file lacks is often another key's fault
    if (std::string_view(error.what()).find(section.path()) != std::string_view::npos) throw;
    rethrow_about(section.path() + " " + given_in(section));
  }
  if (reader->size() > 0) return reader;
  fail(Code::invalid_argument, section.path() + ": the data set has no samples " + given_in(section));
}

TrainOptions::TrainOptions(Section& section) {
  section.bind_path("directory", directory, "where metrics, checkpoints and the TensorBoard log go; a fresh run takes the first unused NAME, NAME-2, …");
  section.bind("epochs", epochs, "passes over the training data; 0: none, only the checkpoint that training would begin with", at_least(0));
  section.bind("max_steps", max_steps, "end after this many updates; 0: no limit", at_least(0));
  section.bind("seed", seed, "of initial values and dropout");
  section.bind("device", device, "where this rank computes: TYPE:INDEX");
  section.bind("threads", threads, "of kernels; 0: this rank's share of the cores that the launcher gave", between(0, 1024));
  section.bind("deterministic", deterministic, "the same bits for any number of kernel threads, any buckets, with and without overlap; costs some speed");
  section.bind("precision", precision,
               "fp32; bf16: what enters a matrix product or convolution is rounded to bfloat16, while sums, parameters and their update stay "
               "float32 (multiplied in float32: shows what bfloat16 does to a model, not how fast it is); bf16_native: dense layers and matrix "
               "products use the processor's bfloat16 instructions", one_of({"fp32", "bf16", "bf16_native"}));
  section.bind("updater", updater, "how gradients become the next parameters", one_of(updater_names()));
  section.bind("accumulate", accumulate, "batches per update (gradient accumulation)", at_least(1));
  section.bind("clip_norm", clip_norm, "largest norm of the whole gradient; 0: no clipping", at_least(0));
  section.bind("max_skipped", max_skipped, "steps in a row with gradients that are not finite before the run gives up", at_least(1));
  section.bind("log_every", log_every, "steps between two lines of metrics", at_least(1));
  section.bind("validate_every", validate_every, "epochs between two validations; 0: only at the end", at_least(0));
  section.bind("check_replicas", check_replicas, "compare a hash of the parameters between the ranks after every step");
}

CheckpointOptions::CheckpointOptions(Section& section) {
  section.bind("every_steps", every_steps, "updates between two checkpoints; 0: at the end of epochs only", at_least(0));
  section.bind("every_epochs", every_epochs, "epochs between two checkpoints; 0: never at the end of an epoch", at_least(0));
  section.bind("keep", keep, "checkpoints to keep", at_least(1));
}

Description::Description(Section& config, DataUse use) {
  train = TrainOptions(config.child("train"));
  build = model_of(config.child("model"));
  Section& data = config.child("data");
  pipeline = PipelineOptions(data);
  open_sets(data, use);
  Section& optimizer_section = config.child("optimizer");
  optimizer = make_optimizer(optimizer_section);
  groups = std::make_shared<ParameterGroups>(optimizer_section);
  schedule = std::make_shared<Schedule>(config.child("schedule"));
  updater.exchange = ExchangeOptions(config.child("exchange"));
  if (train.deterministic) updater.exchange.collective.rank_order = true;
  updater.exchange.each_batch = train.deterministic && train.accumulate > 1;  // the only order that no updater has to leave
  updater.clip_norm = train.clip_norm;
  const TrainingPhase usual(train.updater, config.child("updater"));
  make_updater = usual.make_updater;
  if (usual.aggregate) replay = ReplayOptions(config.child("updater"));
  phases = PhasePlan(config, usual, train.epochs);
  cluster = ClusterOptions(config.child("cluster"));
  checkpoint = CheckpointOptions(config.child("checkpoint"));
  trace = TraceOptions(config.child("trace"));
  config.finish();
  config_text = config.resolved();
}

void Description::open_sets(Section& data, DataUse use) {
  const bool validates = data.has("validation");
  if (use == DataUse::training) training_data = open_data(data.child("train"));
  else if (data.has("train")) bind_reader(data.child("train"));
  if (validates && use == DataUse::none) bind_reader(data.child("validation"));
  else if (validates) validation_data = open_data(data.child("validation"));
  if (validation_data) fields = validation_data->fields();
  if (!training_data) return;
  fields = training_data->fields();
  if (validates) validation_data = with_fields(validation_data, fields, "data.validation", "data.train");
  name_classes(training_data->classes().names);
}

void Description::name_classes(const std::vector<std::string>& names) {
  if (names.empty()) return;
  classes = names;
  if (training_data) training_data = with_classes(training_data, names, "data.train");
  if (!validation_data || validation_data->classes().names.empty()) return;
  const std::string missing = missing_classes(names, validation_data->classes().names);
  if (!missing.empty()) classes_note = "data.validation has no samples of these classes: " + missing;
  validation_data = with_classes(validation_data, names, "data.validation");
}

Setup::Setup(Communicator& communicator, Description description) : Description(std::move(description)) {
  const int cores = cores_of(communicator), threads = train.threads > 0 ? train.threads : cores;
  replica = std::make_unique<Replica>(build, fields,
                                      SessionOptions{.device = train.device, .threads = threads, .seed = train.seed,
                                                     .precision = precision_of(train.precision),
                                                     .deterministic = train.deterministic,
                                                     .profile = communicator.context().profile.get(),
                                                     .wait_limit = communicator.timeout()});
  Session& session = replica->session();
  no_group = why_no_group(*this, communicator, session.device());
  if (no_group.empty()) group = std::make_unique<NodeGroup>(communicator);
  updater.group = group.get();
  updater.exchange_thread = wants_thread(updater.exchange.thread, session.device(), cores, threads);
  parameters = make_parameters();
}

std::unique_ptr<Parameters> Setup::make_parameters() const {
  ParameterLayout layout(replica->session().graph(), [this](auto names, auto shapes) { return groups->assign(names, shapes); },
                         [this](const Shape& shape) { return updater.exchange.is_small(shape); });
  return std::make_unique<Parameters>(replica->session(), std::move(layout), optimizer->slots());
}

void Setup::place_parameters() {
  FlatArray::Memory memory;
  if (group) memory = {.allocate = [this](std::size_t bytes) { return group->allocate(bytes); }, .mine = group->leads()};
  parameters->place(replica->session(), memory);
}

void check_same_model(Communicator& communicator, const Graph& graph) {
  const std::string mine = graph.text();
  const auto hashes = all_gather_value(communicator, stream_of(mine));
  if (std::all_of(hashes.begin(), hashes.end(), [&](std::uint64_t hash) { return hash == hashes[0]; })) return;
  const std::vector<std::string> texts = all_gather(communicator, mine);
  for (std::size_t r = 1; r < texts.size(); ++r) {
    if (texts[r] == texts[0]) continue;
    const auto [a, b] = std::mismatch(texts[0].begin(), texts[0].end(), texts[r].begin(), texts[r].end());
    const auto line_at = [](const std::string& text, std::ptrdiff_t at) {
      if (at >= std::ssize(text)) return std::string("(no such node)");
      const auto begin = text.rfind('\n', static_cast<std::size_t>(std::max<std::ptrdiff_t>(at - 1, 0)));
      const std::size_t from = begin == std::string::npos ? 0 : begin + 1;
      return text.substr(from, text.find('\n', from) - from);
    };
    fail(Code::failed_precondition, fmt::format("ranks 0 and {} have built different models. Rank 0: {}; rank {}: {}", r,
                                                line_at(texts[0], a - texts[0].begin()), r, line_at(texts[r], b - texts[r].begin())));
  }
}

void load_parameters(Communicator& communicator, Setup& setup, OpenCheckpoint& checkpoint) {
  Stateful* const parameters = setup.parameters.get();
  setup.place_parameters();
  checkpoint.load(&communicator, std::span(&parameters, 1), Extra::ignore);
  barrier(communicator);                      // where ranks share the memory, one of them has written it
}

void average_statistics(Communicator& communicator, const Parameters& parameters) {
  if (communicator.size() == 1) return;
  for (const Parameters::Other& other : parameters.others()) {
    if (!other.statistic) continue;
    const std::vector<float> mine = other.value.to_vector<float>();
    std::vector<double> sums(mine.begin(), mine.end());
    all_reduce(communicator, std::span<double>(sums), Reduce::sum);
    std::vector<float> average(mine.size());
    for (std::size_t i = 0; i < mine.size(); ++i) average[i] = static_cast<float>(sums[i] / communicator.size());
    other.value.copy_from(Tensor::of(other.value.shape(), average));
  }
}

MemorySummary memory_of(const Replica& replica, const Parameters& parameters, const Updater& updater) {
  constexpr auto kFloat = static_cast<std::int64_t>(sizeof(float));
  const std::int64_t value_bytes = parameters.values().bytes();
  const Device& device = replica.session().device();
  const UpdaterMemory held = updater.memory();
  MemorySummary m;
  std::int64_t others = 0;
  for (const Parameters::Other& other : parameters.others()) others += static_cast<std::int64_t>(other.value.bytes());
  m.parameters = value_bytes + others;
  m.gradients = held.gradients;
  m.slots = parameters.slot_bytes();
  m.activations = static_cast<std::int64_t>(replica.arena_bytes());
  m.communication = held.exchange - m.gradients + held.residuals + held.window;
  // Gradients lie in the buckets' memory where the host sees the device's; else the device has a copy of the buckets.
  const bool staged = !device.info().host_accessible;
  if (staged) m.communication += held.exchange;
  // One copy per machine lies in the machine's window; every rank counts the whole, since its kernels read it.
  std::int64_t shared = parameters.values().shared() ? value_bytes + m.slots : 0;
  if (parameters.shard() != nullptr && parameters.values().whole()) shared = value_bytes;   // where they are gathered
  const std::int64_t in_buckets = staged || held.gradients_apart ? 0 : m.gradients;
  m.device_total = device.memory().now.load() + in_buckets + shared + held.window;
  m.kernels = m.device_total - m.parameters - m.gradients - m.slots - m.activations - held.window -
              (staged ? held.exchange - m.gradients : 0);
  const std::int64_t exact = parameters.layout().elements() * kFloat;
  const std::int64_t least = parameters.shard() == nullptr ? exact * (2 + static_cast<std::int64_t>(parameters.slots().size()))
                                                           : value_bytes + m.gradients + m.slots + held.window;
  m.least = least + others + static_cast<std::int64_t>(replica.cost().least_activation_bytes);
  return m;
}

std::optional<Evaluation> evaluate(Communicator& communicator, Replica& replica, BatchPipeline& data, const std::function<void()>& after_batch) {
  data.rewind();
  std::vector<double> sums(2 + replica.metric_names().size());   // samples, loss, metrics
  while (const SampleBatch* batch = data.next()) {
    if (all_reduce(communicator, std::int64_t{communicator.context().stop_requested()}, Reduce::max) > 0) return {};
    if (batch->samples == 0 && !replica.reads_on_demand()) continue;
    const BatchResult& result = replica.evaluate(*batch);
    if (after_batch) after_batch();
    if (batch->samples == 0) continue;      // means of nothing
    const auto n = static_cast<double>(batch->samples);
    sums[0] += n;
    sums[1] += n * result.loss;
    for (std::size_t m = 0; m < result.metrics.size(); ++m) sums[2 + m] += n * result.metrics[m];
  }
  all_reduce(communicator, std::span<double>(sums), Reduce::sum);
  check(sums[0] > 0, Code::invalid_argument, "an evaluation of no samples has no result");
  Evaluation evaluation{.loss = sums[1] / sums[0], .metrics = {}, .samples = static_cast<std::int64_t>(sums[0])};
  for (std::size_t m = 0; m < replica.metric_names().size(); ++m) {
    evaluation.metrics.emplace_back(replica.metric_names()[m], sums[2 + m] / sums[0]);
  }
  return evaluation;
}

}  // namespace cohort
