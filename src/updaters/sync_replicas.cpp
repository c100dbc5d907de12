// Synchronous data parallelism: gradients are summed over all ranks before any parameter changes, so replicas stay the same bit
// by bit. Every rank updates the parameters whose sums it gets: all, or its share of the machine's one copy.
#include <cmath>
#include <optional>

#include "cohort/updaters/updater.hpp"
#include "params/slice_update.hpp"

namespace cohort {
namespace {

class SyncReplicas final : public Updater {
 public:
  SyncReplicas(Communicator& communicator, Parameters& parameters, const Optimizer& optimizer, Session& session, const UpdaterOptions& options)
      : group_(options.group), clip_norm_(options.clip_norm),
        exchange_(communicator, parameters, session.device(), options.exchange, {.group = options.group, .own_thread = options.exchange_thread}),
        profile_(*communicator.context().profile), update_name_(profile_.name("optimizer")) {
    if (optimizer.sums() > 0) partials_.emplace(parameters.flat_size(), optimizer.sums(), group_);
    update_.emplace(parameters, optimizer, session.device(), session.pool(), exchange_.owned(), partials_ ? &*partials_ : nullptr);
  }

  GradientExchange& exchange() noexcept override { return exchange_; }
  void begin(const StepInfo& info) override { exchange_.begin(info.step); }
  void ready(std::size_t parameter, const Tensor*) override { exchange_.ready(parameter); }
  void poll() override { exchange_.poll(); }

  Outcome finish(const StepInfo& info, std::span<const float> words) override {
    exchange_.finish(words);
    // All ranks hold the same sums of squares, so they reach the same verdict without asking each other.
    const double norm = std::sqrt(exchange_.sum_of_squares());
    if (!std::isfinite(norm)) {
      exchange_.take_back();
      return {.applied = false, .gradient_norm = norm};
    }
    StepInfo scaled = info;
    if (clip_norm_ > 0 && norm > clip_norm_) scaled.gradient_scale = clip_norm_ / norm;
    const TraceSpan span(profile_, profile_.main(), update_name_);
    update_->run(scaled, [this] { barrier(); });
    barrier();                              // from here on parameters may be read
    return {.applied = true, .gradient_norm = norm};
  }

 private:
  void barrier() {
    if (group_ == nullptr) return;
    const PhaseScope waiting(profile_, Phase::slowest);
    group_->barrier();
  }

  NodeGroup* group_;
  double clip_norm_;
  GradientExchange exchange_;
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
