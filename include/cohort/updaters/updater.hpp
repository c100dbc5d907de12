#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "cohort/exchange/exchange.hpp"
#include "cohort/params/optimizer.hpp"
#include "cohort/params/parameters.hpp"

namespace cohort {

/// What came of one step; all but `missed_here` are the same on all ranks.
struct Outcome {
  bool applied = false;  ///< false: skipped because a gradient was not finite on some rank, and nothing has changed
  double gradient_norm = 0;          ///< of the averaged gradient, before clipping
  bool settled = true;               ///< false: parameters differ between the ranks for now, as do norm and words
  bool missed_here = false;          ///< applied elsewhere: this rank did without, and its samples are to leave no trace
  bool missed = false;               ///< some rank did without a step that others have applied, since the last settled step
};

struct UpdaterOptions {
  ExchangeOptions exchange;
  double clip_norm = 0;              ///< 0: no clipping
  NodeGroup* group = nullptr;        ///< the ranks that share the parameters' memory; null: each rank has its own
  bool exchange_thread = false;      ///< a thread of its own drives the exchange
};

/// How one step's gradients become the next parameters. Gradients are written where `gradient` says, already weighted by
/// this rank's share of the batch, so that sums over ranks are averages.
class Updater {
 public:
  virtual ~Updater() = default;
  [[nodiscard]] virtual GradientExchange& exchange() noexcept = 0;
  [[nodiscard]] const GradientExchange& exchange() const noexcept { return const_cast<Updater*>(this)->exchange(); }
  /// Collective, each.
  virtual void begin(const StepInfo& info) = 0;
  /// During backward: the gradient is there, in the memory that exchange().gradient() gave or, if that is empty, in `gradient`;
  /// null: it is zero.
  virtual void ready(std::size_t parameter, const Tensor* gradient) = 0;
  virtual void poll() = 0;
  /// `words` are summed over the ranks (exchange().word(i)); parameters may be read again afterwards.
  virtual Outcome finish(const StepInfo& info, std::span<const float> words) = 0;
  /// Collective, between batches of one update, if exchange().each_batch(): what was ready is summed over the ranks and
  /// kept.
  void end_batch() { exchange().end_batch(); }
  /// A node is about to read these parameters; only where reads_on_demand().
  virtual void before_read(std::span<const std::size_t> /*parameters*/) {}
  /// Parameters are not whole while nobody reads them: every rank must run the same steps, without samples if need be.
  [[nodiscard]] virtual bool reads_on_demand() const noexcept { return false; }
  /// After `finish`: the sum of word i over the ranks or, where the step is not settled, an estimate of it and the same on no two ranks.
  [[nodiscard]] virtual float word(std::size_t i) const { return exchange().word(i); }
  /// Collective, between steps. From here to the next step parameters and slots are the same on all ranks.
  virtual void settle() {}
  /// Why a step is not applied, for people.
  [[nodiscard]] virtual std::string skipped_text() const { return "a gradient is not finite, the update is skipped on all ranks"; }
  [[nodiscard]] virtual std::int64_t window_bytes() const noexcept { return 0; }   ///< where parameters pass through
  /// Collective. Somebody else has written the parameters that this rank keeps: a checkpoint has been loaded.
  virtual void parameters_changed() {}
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
