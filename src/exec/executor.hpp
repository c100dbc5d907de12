#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "exec/memory_plan.hpp"
#include "exec/plan.hpp"

namespace cohort {

/// Where the executor finds memory that it does not own.
struct ExternalMemory {
  std::function<const Tensor&(const PlanNode& variable)> variable;
  std::vector<Tensor> bound_fetches;       ///< by fetch; an empty tensor: not bound
  /// Memory for a step's own values, of at least so many bytes; empty: the device's.
  std::function<Buffer(std::size_t bytes)> arena{};
};

struct ExecutorOptions {
  Profile* profile = nullptr;              ///< null: nobody records where time goes
  double wait_limit = 60;                  ///< seconds, as in SessionOptions
};

/// Runs one plan on one device, in order. Built once: kernels, contexts and memory are all there before the first run.
class Executor {
 public:
  Executor(Plan plan, const ExternalMemory& memory, Device& device, ThreadPool& pool, StepHooks hooks,
           const ExecutorOptions& options = {});
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  void run(std::span<const Tensor> feeds, const RunOptions& options);
  [[nodiscard]] const StepOrder& order() const noexcept { return order_; }
  [[nodiscard]] const Tensor& fetch(std::size_t i) const { return fetches_.at(i); }
  [[nodiscard]] std::size_t arena_bytes() const noexcept { return memory_.arena_bytes; }
  [[nodiscard]] std::size_t least_arena_bytes() const noexcept { return memory_.least_arena_bytes; }
  [[nodiscard]] double flops() const noexcept { return flops_; }
  [[nodiscard]] std::size_t kernels() const noexcept { return actions_.size(); }
  [[nodiscard]] std::string text() const;

 private:
  struct Action;
  struct DenseCopy { Tensor from, to; };
  struct FetchedFeed { std::size_t fetch, feed; bool bound; };

  void make_kernels(ThreadPool& pool);
  void place_values(const ExternalMemory& memory);
  void place_fetches(const ExternalMemory& memory);
  void make_actions(ThreadPool& pool);
  const Tensor* input_of(Action& action, PlanValue v, bool any_ld);
  [[nodiscard]] Tensor view_of(const Tensor& whole, const Shape& shape, int node);
  void copy_views(PlanValue v, std::vector<DenseCopy>& copies) const;
  void set_feeds(std::span<const Tensor> feeds);
  void run_action(Action& action);
  void run_kernel(Action& action);
  void run_actions(std::size_t begin, std::size_t end);
  void run_traced(std::uint32_t name, std::size_t begin, std::size_t end);
  void name_spans();
  void wait(const Action& action);
  [[noreturn]] void miss(const Action& action) const;
  void deliver(const std::vector<std::size_t>& fetches);
  Tensor& slot(PlanValue v) { return slots_[static_cast<std::size_t>(v.node)][static_cast<std::size_t>(v.output)]; }

  Plan plan_;
  StepOrder order_;
  Device& device_;
  StepHooks hooks_;
  Profile* profile_;                                   // may be null
  double wait_limit_;                                  // seconds
  TraceLane* trace_ = nullptr;                         // while this run is recorded
  std::size_t first_backward_ = 0;                     // the first action of the backward pass
  std::uint32_t forward_name_ = 0, backward_name_ = 0;
  std::vector<std::vector<std::int64_t>> ld_;          // by node and output
  double flops_ = 0;                                   // of one run
  MemoryPlan memory_;
  Buffer arena_;
  RunOptions options_;
  std::vector<std::unique_ptr<Kernel>> kernels_;       // by node; null for sources and free views
  std::vector<std::vector<Tensor>> slots_;             // by node and output
  std::vector<std::vector<int>> views_of_feed_;        // by feed: nodes whose slots follow the feed's memory
  std::vector<Tensor> fed_;                            // by feed: device copies, where the device cannot see the host's memory
  std::vector<Tensor> fetches_;
  std::vector<FetchedFeed> fetched_feeds_;             // fetches that are a feed, or a view of one
  std::vector<std::unique_ptr<Action>> actions_;
  std::vector<int> action_of_;                         // by node; -1: nothing runs
  std::vector<std::size_t> ready_at_start_;
  std::vector<DenseCopy> start_copies_;                // bound fetches that nothing computes (a constant, a variable)
  std::map<int, DenseCopy> dense_views_;               // by node: free views of padded rows as rows of another length
};

/// One node's result for host inputs: constant folding.
[[nodiscard]] Tensor run_on_host(const PlanNode& node, const std::vector<Tensor>& in);

}  // namespace cohort
