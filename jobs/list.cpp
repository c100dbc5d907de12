// Prints everything that this program knows by name, with options, defaults and allowed values.
//
//   cohort list               all kinds
//   cohort list optimizer     one kind
//   cohort list model --plugin ./libmine.so
#include <fmt/core.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cohort/base/library.hpp"
#include "cohort/cluster/cluster_spec.hpp"
#include "cohort/comm/collective.hpp"
#include "cohort/data/pipeline.hpp"
#include "cohort/exec/kernel.hpp"
#include "cohort/faults/fault_injection.hpp"
#include "cohort/graph/model.hpp"
#include "cohort/job/job.hpp"
#include "cohort/params/schedule.hpp"
#include "cohort/run/aggregation.hpp"
#include "cohort/run/replay_options.hpp"
#include "cohort/tensor/device.hpp"
#include "cohort/train/trainer.hpp"
#include "cohort/updaters/updater.hpp"
#include "cohort/watch/detector.hpp"

namespace cohort {
namespace {

/// What a component binds in a section that says nothing: its options with their defaults. One that cannot live without a
/// value, such as the name of a file, throws after it has bound them.
std::string options_of(const std::function<void(Section&)>& make) {
  Section section;
  try {   // a trial: only what has been bound counts
    make(section);
  } catch (const Error&) {
  }
  std::string text;
  for (const Section::Bound& option : section.bound()) {
    text += fmt::format("      {:<24} {}{}\n", option.key + " = " + option.value, option.help,
                        option.allowed.empty() ? "" : " [" + option.allowed + "]");
  }
  return text;
}

/// Prints all entries of one kind, each with its summary on the same line and its options below.
template <class T, class Summary>
void print_kind(Summary&& summary, const std::function<void(const T&, Section&)>& make = {}) {
  fmt::print("{}\n", kKindOf<T>);
  for (const auto& [name, entry] : Registry<T>::instance().entries()) {
    fmt::print("    {:<22} {}\n", name, summary(name, entry.value));
    if (make) fmt::print("{}", options_of([&](Section& section) { make(entry.value, section); }));
  }
  fmt::print("\n");
}

constexpr auto kNoSummary = [](const auto&, const auto&) { return std::string(); };
constexpr auto kSummary = [](const auto&, const auto& type) { return type.summary; };

std::string op_text(const std::string& name, const Op& op) {
  std::string kernels;
  for (const auto& kernel : Registry<KernelFactory>::instance().names()) {
    if (kernel.starts_with(name + "@")) kernels += " " + kernel.substr(name.size() + 1);
  }
  return (op.gradient != nullptr ? "differentiable; " : "") + (kernels.empty() ? "needs no kernel" : "kernels:" + kernels);
}

std::string collective_text(const std::string&, const CollectiveType& type) {
  return type.summary + (type.several_nodes ? "" : "; one machine only") + (type.rank_order ? "; sums in rank order" : "") +
         (type.lossy_codecs ? "; lossy codecs" : "");
}

/// The sections of a job file that are not a plug-in's: those are named by a `type` or `reader`.
void print_sections() {
  const std::vector<std::pair<std::string, std::function<void(Section&)>>> sections = {
      {"[train]", [](Section& s) { (void)TrainOptions(s); }},
      {"[data]", [](Section& s) { (void)PipelineOptions(s); }},
      {"[data.augment]", [](Section& s) { (void)AugmentOptions(s); }},
      {"[data.train], [data.validation]", [](Section& s) { bind_reader(s); }},
      {"[optimizer]", [](Section& s) { (void)make_optimizer(s); }},
      {"[schedule]", [](Section& s) { (void)Schedule(s); }},
      {"[exchange]", [](Section& s) { (void)ExchangeOptions(s); }},
      {"[warmup]", [](Section& s) { (void)WarmupOptions(s); }},
      {"[updater] with async and sync_with_backups", [](Section& s) { (void)ReplayOptions(s); }},
      {"[updater.replay]", [](Section& s) { ReplayOptions().bind(s); }},
      {"[[phase]], with [phase.updater]", [](Section& s) { (void)PhaseOptions(s); }},
      {"[checkpoint]", [](Section& s) { (void)CheckpointOptions(s); }},
      {"[trace]", [](Section& s) { (void)TraceOptions(s); }},
      {"[cluster]", [](Section& s) { (void)ClusterOptions(s); }},
      {"[watchdog]", [](Section& s) { (void)DetectorOptions(s); }},
      {"[[fault]]", [](Section& s) { (void)Fault::from(s); }},
  };
  fmt::print("section of a job file\n");
  for (const auto& [name, bind] : sections) fmt::print("    {}\n{}", name, options_of(bind));
  fmt::print("\n");
}

/// Updaters and aggregations: train.updater names either.
void print_updaters() {
  std::map<std::string, std::function<void(Section&)>> all;
  for (const auto& [name, entry] : Registry<UpdaterType>::instance().entries()) all.emplace(name, entry.value.make);
  for (const auto& [name, entry] : Registry<AggregationType>::instance().entries()) all.emplace(name, entry.value.make);
  fmt::print("{}\n", kKindOf<UpdaterType>);
  for (const auto& [name, make] : all) fmt::print("    {:<22} \n{}", name, options_of(make));
  fmt::print("\n");
}

struct Kind {
  std::string_view name;
  std::function<void()> print;
};

std::vector<Kind> kinds() {
  const auto count = [](const auto&, const DeviceType& type) { return fmt::format("{} here", type.count()); };
  const auto version = [](const auto&, const Library& library) { return library.version() + ", " + library.purpose; };
  return {
      {"section", print_sections},
      {"job", [] { print_kind<JobType>(kSummary); }},
      {"model", [] { print_kind<ModelType>(kNoSummary, [](const auto& type, Section& s) { (void)type.make(s); }); }},
      {"reader", [] {
         print_kind<ReaderType>(kNoSummary, [](const auto& type, Section& s) {
           if (type.bind) type.bind(s);
           else (void)type.open(s);
         });
       }},
      {"optimizer", [] { print_kind<OptimizerType>(kSummary, [](const auto& type, Section& s) { (void)type.make(s); }); }},
      {"updater", print_updaters},
      {"collective", [] { print_kind<CollectiveType>(collective_text); }},
      {"codec", [] { print_kind<CodecType>(kSummary, [](const auto& type, Section& s) { (void)type.make(s); }); }},
      {"op", [] { print_kind<Op>(op_text); }},
      {"device", [count] { print_kind<DeviceType>(count); }},
      {"library", [version] { print_kind<Library>(version); }},
  };
}

int list(Communicator& world, JobArguments& arguments) {
  arguments.config.finish();
  bool found = arguments.argument.empty();
  std::vector<std::string> names;
  for (const Kind& kind : kinds()) {
    names.emplace_back(kind.name);
    found = found || kind.name == arguments.argument;
  }
  if (!found) fail(Code::not_found, unknown_name_text("kind", arguments.argument, names));
  if (world.rank() != 0) return kExitDone;
  for (const Kind& kind : kinds()) {
    if (arguments.argument.empty() || kind.name == arguments.argument) kind.print();
  }
  return kExitDone;
}

const Registered<JobType> job{"list", {.summary = "names every op, optimizer, model, reader, … with its options",
                                       .argument = JobArgument::text,
                                       .argument_help = "only this kind: section, model, optimizer, op, …",
                                       .reads_only = true,
                                       .run = list}};

}  // namespace
}  // namespace cohort
