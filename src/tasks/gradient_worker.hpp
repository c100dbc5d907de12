#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "cohort/exchange/gradient_sink.hpp"
#include "exchange/gradient_accumulator.hpp"
#include "exchange/gradient_store.hpp"
#include "run/gradient_source.hpp"
#include "run/run.hpp"
#include "run/setup.hpp"
#include "tasks/messages.hpp"

namespace cohort {

/// Computes the gradients that tokens ask for with one replica. They lie in memory of this rank alone, and what becomes of them is
/// somebody else's business. One thread.
class GradientWorker final : private GradientSink {
 public:
  /// Heard during the backward pass that makes a gradient complete.
  struct Hooks {
    std::function<void(std::size_t parameter)> ready = [](std::size_t) {};
    std::function<void()> poll = [] {};
  };
  /// `setup.parameters` has been placed.
  GradientWorker(Run& run, Setup& setup, Hooks hooks);

  /// With the values that the replica has now. Gradients are in `memory()` until the next call.
  [[nodiscard]] Done make(const Token& token);
  /// Sums over the token's share of the validation data.
  [[nodiscard]] Done evaluate(const Token& token);

  [[nodiscard]] const GradientStore& memory() const noexcept { return store_; }
  void add_to_summary();

 private:
  struct Batches {
    std::int32_t phase = -1, share = 0, shares = 0;
    std::unique_ptr<BatchPipeline> pipeline;
  };

  [[nodiscard]] BatchPipeline& batches_of(const Token& token);
  [[nodiscard]] Tensor gradient(std::size_t p) const override { return store_.gradient(p); }
  void ready(std::size_t p, const Tensor* value) override;
  void poll() override { hooks_.poll(); }
  void begin_batch(bool last) override { accumulator_.begin_batch(last); }
  void contribute_zeros() override;
  void end_batch() override { accumulator_.end_batch(); }

  Run& run_;
  Setup& setup_;
  Hooks hooks_;
  GradientStore store_;
  GradientAccumulator accumulator_;
  GradientSource source_;
  Done done_;                                // of the gradient at hand
  std::vector<Batches> batches_;
  std::unique_ptr<BatchPipeline> validation_;
  std::int32_t validation_share_ = -1;
};

}  // namespace cohort
