#pragma once

#include <memory>

#include "cohort/updaters/updater.hpp"

namespace cohort {

/// An updater whose gradients are summed by an exchange, and whose norm decides for all ranks alike whether the update is
/// applied. What is left to the updaters is how the sums become parameters.
class ExchangeUpdater : public Updater {
 public:
  [[nodiscard]] Tensor gradient(std::size_t parameter) const override { return exchange_->gradient(parameter); }
  void ready(std::size_t parameter, const Tensor* value) override;
  void poll() override { exchange_->poll(); }

  void begin(const StepInfo& info) override { exchange_->begin(info.step); }
  void begin_batch(bool last) override { last_batch_ = last; }
  void contribute_zeros() override;
  void end_batch() override;
  StepOutcome finish(const StepInfo& info, const StepScalars& mine) override;

  [[nodiscard]] ResidualKeeper& residuals() noexcept override { return *exchange_; }
  void observe_next_step() override { exchange_->observe_next_step(); }
  [[nodiscard]] std::span<const BucketReport> reports() const noexcept override { return exchange_->reports(); }
  [[nodiscard]] UpdaterMemory memory() const noexcept override;
  [[nodiscard]] std::string text() const override { return exchange_->text(); }
  [[nodiscard]] std::string codec_note(const ExchangeOptions& asked, const Communicator& ranks, std::int64_t steps) const override {
    return exchange_->codec_note(asked, ranks, steps);
  }

 protected:
  ExchangeUpdater(const Parameters& parameters, const UpdaterOptions& options)
      : clip_norm_(options.clip_norm), parameters_(parameters.trained().size()) {}
  /// Collective. The sums are there: `info.gradient_scale` says what they are to be multiplied by.
  virtual void update(const StepInfo& info) = 0;

  std::unique_ptr<GradientExchange> exchange_;      // made by the updater

 private:
  double clip_norm_;
  std::size_t parameters_;
  bool last_batch_ = true;                          // of the update
};

}  // namespace cohort
