#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "cohort/updaters/updater.hpp"
#include "exchange/gradient_accumulator.hpp"
#include "exchange/gradient_exchange.hpp"

namespace cohort {

/// An updater whose gradients are summed by an exchange, and whose norm decides for all ranks alike whether the update is
/// applied. What is left to the updaters is how the sums become parameters.
class ExchangeUpdater : public Updater {
 public:
  [[nodiscard]] Tensor gradient(std::size_t parameter) const override;
  void follow_gradients(std::span<const std::size_t> order) override { order_.assign(order.begin(), order.end()); }
  void ready(std::size_t parameter, const Tensor* value) override;
  void poll() override { exchange_->poll(); }

  void begin(const StepInfo& info) override { exchange_->begin(info.step); }
  void begin_batch(bool last) override;
  void contribute_zeros() override;
  void end_batch() override;
  StepOutcome finish(const StepInfo& info, const StepScalars& mine) override;

  [[nodiscard]] ResidualKeeper& residuals() noexcept override { return reduction().compression().feedback(); }
  void observe_next_step() override { reduction().compression().report().observe_next_step(); }
  [[nodiscard]] std::span<const BucketReport> reports() const noexcept override { return reduction().compression().report().reports(); }
  [[nodiscard]] UpdaterMemory memory() const noexcept override;
  [[nodiscard]] std::string text() const override { return exchange_->text(); }
  [[nodiscard]] std::string codec_note(const ExchangeOptions& asked, const Communicator& ranks, std::int64_t steps) const override {
    return exchange_->codec_note(asked, ranks, steps);
  }

 protected:
  ExchangeUpdater(const ParameterLayout& layout, const UpdaterOptions& options);
  /// By the updater, before anything else is asked for.
  void exchange_by(std::unique_ptr<GradientExchange> exchange);
  [[nodiscard]] Reduction& reduction() const noexcept { return exchange_->reduction(); }
  /// Collective. The sums are there: `info.gradient_scale` says what they are to be multiplied by.
  virtual void update(const StepInfo& info) = 0;

 private:
  const ParameterLayout& layout_;
  double clip_norm_;
  std::vector<std::size_t> order_;                          // of parameters, as their gradients become ready
  std::unique_ptr<GradientExchange> exchange_;
  std::optional<GradientAccumulator> accumulator_;          // unless the ranks sum every batch
  bool last_batch_ = true;                                  // of the update
};

}  // namespace cohort
