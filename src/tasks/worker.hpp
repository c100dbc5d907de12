#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "checkpoint/residual_files.hpp"
#include "params/kept_statistics.hpp"
#include "run/run.hpp"
#include "run/setup.hpp"
#include "tasks/gradient_worker.hpp"
#include "tasks/gradient_push.hpp"
#include "tasks/messages.hpp"
#include "tasks/task_layout.hpp"
#include "tasks/token_line.hpp"
#include "tasks/value_pull.hpp"

namespace cohort {

/// One worker: asks the token task for work, reads values from the parameter tasks, and sends them its gradients. One thread,
/// with an endpoint of its own.
class Worker {
 public:
  /// `setup.parameters` has been placed.
  Worker(Run& run, Setup& setup, Communicator& client, const TaskLayout& layout);

  /// Where residuals go with a checkpoint; null: nowhere. It must outlive this object.
  void save_residuals_to(ResidualFiles* files) noexcept { residuals_ = files; }
  /// Until the token task ends it. True if no rank was lost before. Error cancelled if this worker is given up.
  bool work();
  void add_to_summary();
  [[nodiscard]] GradientPush& push() noexcept { return push_; }

 private:
  [[nodiscard]] Token next_token();
  void give_statistics();
  void save_residuals(const Token& token);
  void mark_residuals(const Token& token);
  void keep(const Token& token);
  void take_back();
  void train(const Token& token);
  void evaluate(const Token& token);

  Run& run_;
  Setup& setup_;
  Communicator& client_;
  GradientWorker gradients_;
  GradientPush push_;
  ValuePull pull_;
  KeptStatistics statistics_;  // before the gradient at hand, or where updates are steps, before the first of its step
  std::int64_t kept_ = -1;                   // the version that they are of
  ResidualFiles* residuals_ = nullptr;
  TokenLine line_;
};

}  // namespace cohort
