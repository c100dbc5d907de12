// Synchronous data parallelism: gradients are summed over all ranks before any parameter changes, so replicas stay the same bit
// by bit. Every rank updates the parameters whose sums it gets: all, or its share of the machine's one copy.
#include <optional>

#include "exchange/node_sharded_reduction.hpp"
#include "exchange/replicated_reduction.hpp"
#include "params/slice_update.hpp"
#include "updaters/exchange_updater.hpp"

namespace cohort {
namespace {

class SyncReplicas final : public ExchangeUpdater {
 public:
  SyncReplicas(Communicator& communicator, Parameters& parameters, const Optimizer& optimizer, Session& session, const UpdaterOptions& options)
      : ExchangeUpdater(parameters.layout(), options), group_(options.group), profile_(*communicator.context().profile),
        update_name_(profile_.name("optimizer")) {
    ReductionBuilder builder = build_reduction<ReplicatedReduction>;
    if (group_ != nullptr) builder = [this](const ReductionContext& context) { return std::make_unique<NodeShardedReduction>(context, *group_); };
    exchange_by(std::make_unique<GradientExchange>(communicator, parameters.layout(), session.device(), options.exchange, builder, options.exchange_thread));
    if (optimizer.sums() > 0) partials_.emplace(parameters.layout().flat_size(), optimizer.sums(), group_);
    update_.emplace(parameters, optimizer, session.device(), session.pool(), reduction().owned(), partials_ ? &*partials_ : nullptr);
  }

 private:
  void update(const StepInfo& info) override {
    const TraceSpan span(profile_, profile_.main(), update_name_);
    update_->run(info, [this] { barrier(); });
    barrier();                              // from here on parameters may be read
  }

  void barrier() {
    if (group_ == nullptr) return;
    const PhaseScope waiting(profile_, Phase::slowest);
    group_->barrier();
  }

  NodeGroup* group_;
  std::optional<UnitTable> partials_;       // the optimizer's sums, if it has some
  std::optional<SliceUpdate> update_;
  Profile& profile_;
  std::uint32_t update_name_;               // in a trace
};

const Registered<UpdaterType> sync_replicas{
    "sync_replicas",
    {.make = [](Section&) -> UpdaterBuilder { return build_updater<SyncReplicas>; },
     .shared_parameters = true}};

}  // namespace
}  // namespace cohort
