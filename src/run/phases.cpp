#include "run/phases.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>

#include "base/sizes.hpp"
#include "cohort/base/error.hpp"

namespace cohort {

std::vector<std::string> updater_names() {
  std::vector<std::string> names = Registry<UpdaterType>::instance().names();
  std::ranges::copy(Registry<AggregationType>::instance().names(), std::back_inserter(names));
  std::ranges::sort(names);
  return names;
}

WarmupOptions::WarmupOptions(Section& section) {
  section.bind("replicas", replicas,
               "the first so many ranks train alone, the others follow and get parameters and optimizer state at the end", at_least(1));
  section.bind("epochs", epochs, "how long; 0: no warm-up. Short for a first [[phase]]", at_least(0));
}

PhaseOptions::PhaseOptions(Section& section) {
  section.bind("epochs", epochs, "that are trained in this way; 0: all that are left, in the last phase only", at_least(0));
  section.bind("replicas", replicas, "the first so many ranks train, the others follow; 0: all", at_least(0));
  section.bind("batch", batch, "samples per rank and step; 0: as [data] says", at_least(0));
}

TrainingPhase::TrainingPhase(Section& section, const TrainingPhase& usual)
    : PhaseOptions(section), updater(usual.updater), make_updater(usual.make_updater), aggregate(usual.aggregate) {
  if (!section.has("updater")) return;
  Section& own = section.child("updater");
  std::string name = usual.updater;
  own.bind("type", name, "in place of train.updater, with its options", one_of(updater_names()));
  choose(name, own);
  check(bool(aggregate) == bool(usual.aggregate), Code::invalid_argument,
        fmt::format("phase.updater = \"{}\" beside train.updater = \"{}\": one needs parameter tasks and the other has none, and ranks keep their roles "
                    "for a whole run", updater, usual.updater));
}

void TrainingPhase::choose(std::string name, Section& options) {
  updater = std::move(name);
  const AggregationType* const with_tasks = Registry<AggregationType>::instance().find(updater);
  make_updater = with_tasks == nullptr ? Registry<UpdaterType>::instance().get(updater).make(options) : UpdaterBuilder();
  aggregate = with_tasks == nullptr ? AggregationBuilder() : with_tasks->make(options);
}

PipelineOptions TrainingPhase::pipeline(PipelineOptions usual, int ranks) const {
  if (batch > 0) {
    usual.batch = batch;
    usual.global_batch = 0;
    usual.rank_batches.clear();
  }
  const auto active_ranks = static_cast<std::size_t>(active(ranks));
  if (usual.rank_batches.size() == static_cast<std::size_t>(ranks)) usual.rank_batches.resize(active_ranks);   // others are refused
  return usual;
}

PhaseBatches TrainingPhase::batches(const PipelineOptions& usual, int ranks) const {
  PhaseBatches batches{pipeline(usual, ranks), active(ranks)};
  if (!aggregate) return batches;
  check(batches.pipeline.rank_batches.empty(), Code::invalid_argument, "data.rank_batches: workers of parameter tasks take batches of one size");
  const std::unique_ptr<Aggregation> rules = aggregate(batches.ways);
  if (rules->in_steps()) {
    batches.ways = rules->shares();
    return batches;
  }
  PipelineOptions& each = batches.pipeline;
  if (each.global_batch > 0) each.batch = std::max<std::int64_t>(1, each.global_batch / batches.ways);
  each.global_batch = 0;
  batches.ways = rules->per_update();
  return batches;
}

PhaseLength::PhaseLength(const PipelineOptions& pipeline, int active, std::int64_t samples, std::int64_t accumulate) {
  const std::int64_t batch = BatchPlan(pipeline, active).global_batch();
  const std::int64_t batches = (samples + (pipeline.drop_last ? 0 : batch - 1)) / batch;
  update_samples = product_of({{"samples of a batch on all ranks", batch}, {"train.accumulate", accumulate}});
  updates_per_epoch = std::max<std::int64_t>(batches / accumulate + (batches % accumulate == 0 ? 0 : 1), 1);
}

PhasePlan::PhasePlan(Section& config, const TrainingPhase& usual, std::int64_t epochs) {
  const WarmupOptions warmup(config.child("warmup"));
  if (warmup.epochs > 0) {
    phases_.push_back(usual);
    phases_.back().replicas = warmup.replicas;
    phases_.back().epochs = warmup.epochs;
  }
  for (Section* section : config.children("phase")) phases_.emplace_back(*section, usual);
  const bool listed = phases_.size() > (warmup.epochs > 0 ? 1u : 0u);
  if (!listed) phases_.push_back(usual);
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < phases_.size(); ++i) {
    TrainingPhase& phase = phases_[i];
    const bool last = i + 1 == phases_.size();
    check(phase.epochs > 0 || last, Code::invalid_argument,
          fmt::format("phase.epochs: phase {} of {} needs a number of epochs, only the last may go on to the end", i + 1, phases_.size()));
    const std::int64_t before = begin;
    begin = phase.epochs > 0 ? sum_of({{"epochs of earlier phases", before}, {"phase.epochs", phase.epochs}}) : std::max(before, epochs);
    phase.begin = before;
    phase.end = begin;
  }
  check(begin >= epochs, Code::invalid_argument,
        fmt::format("phase.epochs: the phases end after {} epochs, train.epochs is {}; leave out the last phase's epochs to go on to the end",
                    begin, epochs));
}

std::size_t PhasePlan::at(std::int64_t epoch) const {
  const auto found = std::ranges::find_if(phases_, [&](const TrainingPhase& phase) { return epoch < phase.end; });
  return found == phases_.end() ? phases_.size() - 1 : static_cast<std::size_t>(found - phases_.begin());
}

}  // namespace cohort
