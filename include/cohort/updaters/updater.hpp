#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "cohort/exchange/bucket_report.hpp"
#include "cohort/exchange/gradient_sink.hpp"
#include "cohort/exchange/options.hpp"
#include "cohort/exchange/step_scalars.hpp"
#include "cohort/params/optimizer.hpp"
#include "cohort/params/node_group.hpp"
#include "cohort/params/parameters.hpp"
#include "cohort/params/residual_keeper.hpp"

namespace cohort {

/// What came of one step; all but `missed_here` are the same on all ranks.
struct StepOutcome {
  bool applied = false;  ///< false: skipped because a gradient was not finite on some rank, and nothing has changed
  double gradient_norm = 0;          ///< of the averaged gradient, before clipping
  bool settled = true;               ///< false: parameters differ between the ranks for now, as do norm and scalars
  bool missed_here = false;          ///< applied elsewhere: this rank did without, and its samples are to leave no trace
  bool missed = false;               ///< some rank did without a step that others have applied, since the last settled step
  StepScalars scalars{};             ///< sums over the ranks or, where the step is not settled, an estimate of them by this rank
};

struct UpdaterOptions {
  ExchangeOptions exchange;
  double clip_norm = 0;              ///< 0: no clipping
  NodeGroup* group = nullptr;        ///< the ranks that share the parameters' memory; null: each rank has its own
  bool exchange_thread = false;      ///< a thread of its own drives the exchange
};

/// Bytes that an updater holds for gradients and for what passes through its hands.
struct UpdaterMemory {
  std::int64_t gradients = 0;        ///< that stay until the update
  std::int64_t exchange = 0;         ///< all that the exchange has for gradients, with those that stay
  std::int64_t residuals = 0;        ///< of error feedback
  std::int64_t window = 0;           ///< where parameters pass through
  bool gradients_apart = false;      ///< gradients lie in memory of their own, not in that of the exchange
};

/// How one step's gradients become the next parameters. Gradients are written where `gradient` says, already weighted by this
/// rank's share of the update's samples, so that sums over the ranks are averages. A step is `begin`, then its batches as a
/// GradientSink gets them, each of them collective; then `finish`.
class Updater : public GradientSink {
 public:
  /// Collective. `info` counts the steps; the rates are those of `finish`.
  virtual void begin(const StepInfo& info) = 0;
  /// Collective. Parameters may be read again afterwards.
  virtual StepOutcome finish(const StepInfo& info, const StepScalars& mine) = 0;

  /// Collective, between steps. From here to the next step parameters and slots are the same on all ranks.
  virtual void settle() {}
  /// Collective. Somebody else has written the parameters that this rank keeps: a checkpoint has been loaded.
  virtual void parameters_changed() {}
  /// What a lossy codec has not sent yet, for checkpoints.
  [[nodiscard]] virtual ResidualKeeper& residuals() noexcept = 0;

  /// Collective in what it does to the next step: there are reports of its buckets, once it is finished. Costs a pass over the
  /// gradients.
  virtual void observe_next_step() {}
  /// Of the last step, if it was observed and a codec that is not exact had a part in it; else empty.
  [[nodiscard]] virtual std::span<const BucketReport> reports() const noexcept { return {}; }
  [[nodiscard]] virtual UpdaterMemory memory() const noexcept = 0;

  /// How sums over the ranks come about, for people.
  [[nodiscard]] virtual std::string text() const = 0;
  /// Of the ranks that train: where no gradient of so many steps travels through the codec that is asked for, one line for people
  /// that says so and why; else empty.
  [[nodiscard]] virtual std::string codec_note(const ExchangeOptions& asked, const Communicator& ranks, std::int64_t steps) const = 0;
  /// Why a step is not applied, for people.
  [[nodiscard]] virtual std::string skipped_text() const { return "a gradient is not finite, the update is skipped on all ranks"; }
  /// What this rank will hold, for people, before training; may be empty.
  [[nodiscard]] virtual std::string memory_plan() const { return {}; }
};

/// Collective. Makes it, once the parameters are laid out.
using UpdaterBuilder = std::function<std::unique_ptr<Updater>(Communicator&, Parameters&, const Optimizer&, Session&, const UpdaterOptions&)>;

/// The builder of an updater without options.
template <class U>
std::unique_ptr<Updater> build_updater(Communicator& c, Parameters& p, const Optimizer& o, Session& s, const UpdaterOptions& options) {
  return std::make_unique<U>(c, p, o, s, options);
}

/// How an updater enters, for ranks that all hold a replica and meet in collectives: its options are bound from the [updater]
/// section.
struct UpdaterType {
  std::function<UpdaterBuilder(Section&)> make{};
  bool shared_parameters = false;    ///< works where the ranks of a machine keep one copy of the parameters
  bool places_parameters = false;    ///< gives the parameters their memory itself
};
template <>
inline constexpr std::string_view kKindOf<UpdaterType> = "updater";

}  // namespace cohort
