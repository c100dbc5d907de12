#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cohort/train/exchange.hpp"
#include "train/run.hpp"
#include "train/setup.hpp"
#include "train/tasks/gradient_push.hpp"
#include "train/tasks/messages.hpp"
#include "train/tasks/task_layout.hpp"
#include "train/tasks/value_pull.hpp"

namespace cohort {

/// One worker: asks the token task for work, reads values from the parameter tasks, and sends them its gradients. One thread,
/// with an endpoint of its own.
class Worker {
 public:
  /// `alone`: a group of this rank only. `setup.parameters`: placed by this.
  Worker(Run& run, Setup& setup, Communicator& client, Communicator& alone, const TaskLayout& layout);

  /// Until the token task ends it. True if no rank was lost before. Error cancelled if this worker is given up.
  bool work();
  void add_to_summary();
  [[nodiscard]] GradientPush& push() noexcept { return push_; }

 private:
  struct Batches {
    std::int32_t phase = -1, share = 0, shares = 0;
    std::unique_ptr<BatchPipeline> pipeline;
  };

  void bind_exchange();
  [[nodiscard]] Token next_token();
  void report(Done done);
  void take_averages();
  void give_statistics();
  void train(const Token& token);
  void forward_backward(const SampleBatch& batch, const Token& token, bool last, Done& done);
  void contribute_zeros(bool last);
  void gradient_ready(std::size_t p, const Tensor* gradient);
  void end_batch();
  void evaluate(const Token& token);
  [[nodiscard]] BatchPipeline& batches_of(const Token& token);
  template <class F>
  void for_each_statistic(F&& f);

  Run& run_;
  Setup& setup_;
  Communicator& client_;
  const TaskLayout& layout_;
  Profile& profile_;
  GradientExchange exchange_;                // alone: memory of gradients, accumulation, norms
  GradientPush push_;
  ValuePull pull_;
  std::vector<Batches> batches_;
  std::unique_ptr<BatchPipeline> validation_;
  std::int32_t validation_share_ = -1;
  Transfer token_in_, out_;
  Token token_;
  Done done_;
  std::int64_t last_token_ = 0, micro_step_ = 0;
  bool last_of_update_ = false;
};

}  // namespace cohort
