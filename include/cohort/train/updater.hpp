#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "cohort/train/exchange.hpp"
#include "cohort/train/optimizer.hpp"
#include "cohort/train/parameters.hpp"

namespace cohort {

/// What came of one step; the same on all ranks.
struct Outcome {
  bool applied = false;              ///< false: skipped because a gradient was not finite on some rank
  double gradient_norm = 0;          ///< of the averaged gradient, before clipping
};

struct UpdaterOptions {
  ExchangeOptions exchange;
  double clip_norm = 0;              ///< 0: no clipping
  NodeGroup* group = nullptr;        ///< the ranks that share the parameters' memory; null: each rank has its own
  bool exchange_thread = false;      ///< a thread of its own drives the exchange
  ThreadPool* pool = nullptr;        ///< the session's: it does nothing during an update
};

/// How one step's gradients become the next parameters. Gradients are written where `gradient` says, already weighted by
/// this rank's share of the batch, so that sums over ranks are averages.
class Updater {
 public:
  virtual ~Updater() = default;
  [[nodiscard]] virtual GradientExchange& exchange() noexcept = 0;
  /// Collective, each.
  virtual void begin(const StepInfo& info) = 0;
  virtual void ready(std::size_t parameter) = 0;       ///< during backward; the gradient is in place
  virtual void poll() = 0;
  /// `words` are summed over the ranks (exchange().word(i)); parameters may be read again afterwards.
  virtual Outcome finish(const StepInfo& info, std::span<const float> words) = 0;
};

struct UpdaterType {
  std::function<std::unique_ptr<Updater>(Communicator&, Parameters&, const Optimizer&, Device&, const UpdaterOptions&)> make;
  bool shared_parameters = false;    ///< works where the ranks of a machine keep one copy of the parameters
};
template <>
inline constexpr std::string_view kKindOf<UpdaterType> = "updater";

}  // namespace cohort
