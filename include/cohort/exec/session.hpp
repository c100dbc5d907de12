#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cohort/base/profile.hpp"
#include "cohort/exec/kernel.hpp"
#include "cohort/graph/graph.hpp"

namespace cohort {

/// A value and what it is fed with. A feed's memory is read during the run, not copied (unless the device cannot see it).
using Feeds = std::vector<std::pair<Value, Tensor>>;
using FeedShapes = std::vector<std::pair<Value, Shape>>;

/// What the trainer wants to hear while a step runs; all may be empty. Called on the thread that runs the step.
struct StepHooks {
  std::function<void(std::size_t fetch)> ready{}; ///< the fetch of that position has been computed (on an asynchronous device: enqueued)
  std::function<void()> poll{};                   ///< between nodes: drive communication
  /// A node is about to read these variables (their nodes in the graph), maybe through views.
  std::function<void(std::span<const int> variables)> before_read{};
  std::function<void(std::span<float>)> sum_over_replicas{};   ///< for statistics over the batches of all replicas
  std::vector<bool> consumed{};                   ///< by fetch, empty: none: nobody looks at it once `ready` has returned; not if bound
  int backward_from = -1;                         ///< the graph's first node of the backward pass, for the trace; -1: none
};

/// Of what enters products. bf16: rounded to bfloat16 and multiplied in float32; bf16_native: the same roundings, multiplied as
/// bfloat16 by ops whose kernels can. Sums and variables are float32 in any case.
enum class Precision : std::uint8_t { fp32, bf16, bf16_native };

struct SessionOptions {
  std::string device = "CPU:0";
  int threads = 1;                  ///< of kernels, the caller included
  std::uint64_t seed = 0;           ///< of initial values
  Precision precision = Precision::fp32;
  bool deterministic = false;       ///< cut work in the same way for any number of threads
  Profile* profile = nullptr;       ///< where kernels leave their times while a trace is recorded; null: nowhere
  double wait_limit = 60;           ///< seconds that a run waits for a node whose kernel finishes later (`Kernel::finishes_later`)
};

class Session;

/// In which order a step works: a fact of its plan.
struct StepOrder {
  std::vector<int> reads;                ///< variables (their nodes in the graph) as nodes read them, once per node that does
  std::vector<std::size_t> fetches;      ///< positions of fetches, as they are computed
};

/// One prepared set of fetches and feed shapes: kernels and primitives chosen, one arena laid out. `run` neither allocates
/// nor looks anything up.
class Step {
 public:
  ~Step();
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  /// Feeds by position of the `FeedShapes` it was prepared for. Error invalid_argument if a shape or type differs;
  /// deadline_exceeded if a kernel that finishes later has not within `SessionOptions::wait_limit`: then it may still write to
  /// this session's memory, and only the end of the process is safe.
  void run(std::span<const Tensor> feeds, const RunOptions& options = {});

  [[nodiscard]] const StepOrder& order() const;

  /// The fetch's memory on the device: valid until the next run of any step of this session.
  [[nodiscard]] const Tensor& fetch(std::size_t i) const;

  /// Memory of this step beside variables, feeds and bound fetches; the steps of a session share it.
  [[nodiscard]] std::size_t arena_bytes() const;
  [[nodiscard]] std::size_t least_arena_bytes() const;   ///< what lives at the busiest moment: the arena cannot be smaller
  [[nodiscard]] double flops() const;                ///< multiplications and additions of one run, see Op::flops
  [[nodiscard]] std::size_t kernels() const;
  [[nodiscard]] std::string text() const;            ///< a table of what runs, for people and tests

 private:
  friend class Session;
  struct State;
  explicit Step(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Owns a device, the resources (variables) on it, a thread pool and prepared steps. One thread at a time.
class Session {
 public:
  explicit Session(Graph& graph, const SessionOptions& options = {});
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] Graph& graph() const noexcept;
  [[nodiscard]] Device& device() const noexcept;
  [[nodiscard]] ThreadPool& pool() const noexcept;       ///< for work between two runs

  /// Memory that somebody else owns, for a variable (its present value is not copied) or for a fetch of every step that is
  /// prepared afterwards. Same type and shape; any leading dimension that the kernels involved accept.
  void bind(Value variable_or_fetch, Tensor storage);

  /// The memory of a variable; made and initialised at the first call: value = f(seed, name, index).
  [[nodiscard]] const Tensor& variable(Value variable);

  /// With a function among the hooks always new; else cached by all that the step was made from: fetches and the memory that they
  /// are bound to, feed shapes, `consumed` and `backward_from`.
  Step& prepare(std::span<const Value> fetches, const FeedShapes& feeds, StepHooks hooks = {});

  /// That of a step for such fetches and feeds, which is not prepared for that.
  [[nodiscard]] StepOrder order(std::span<const Value> fetches, const FeedShapes& feeds);

  /// Prepares, runs, and copies the fetches to the host: for tests, evaluation and first steps.
  std::vector<Tensor> run(std::span<const Value> fetches, const Feeds& feeds = {}, const RunOptions& options = {});
  Tensor run(Value fetch, const Feeds& feeds = {}, const RunOptions& options = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cohort
