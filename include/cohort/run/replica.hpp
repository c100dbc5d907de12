#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cohort/data/pipeline.hpp"
#include "cohort/exchange/gradient_sink.hpp"
#include "cohort/exec/session.hpp"
#include "cohort/graph/model.hpp"
#include "cohort/params/parameter_layout.hpp"

namespace cohort {

/// Loss and metrics of one batch, means over its samples, in the order of Replica::metric_names().
struct BatchResult {
  double loss = 0;
  std::vector<double> metrics;
};

/// One rank's copy of a model: the graph for training and for evaluation over the same variables, the session that runs
/// them, and a prepared step for each batch size that has come up.
class Replica {
 public:
  /// `fields` are those of the data: each becomes a placeholder [?, shape of a sample].
  Replica(const ModelBuilder& build, const std::vector<Field>& fields, const SessionOptions& options);
  Replica(const Replica&) = delete;
  Replica& operator=(const Replica&) = delete;

  [[nodiscard]] Session& session() const noexcept { return *session_; }
  [[nodiscard]] const Graph& graph() const noexcept { return graph_; }
  [[nodiscard]] const Model& evaluation_model() const noexcept { return evaluation_.model; }
  [[nodiscard]] const std::vector<std::string>& metric_names() const noexcept { return metric_names_; }

  /// Before the first step. `sink` takes the gradients of all parameters in every training step, and must outlive them.
  /// `samples`: of a usual step here, for what must be known of a step beforehand.
  void bind_gradients(const ParameterLayout& layout, GradientSink& sink, std::int64_t samples);

  /// Does the model take statistics over the batches of all replicas? Then each of them must train in every step, with a
  /// batch of no samples and weight 0 if need be, and `sum` is called for them.
  [[nodiscard]] bool is_joint() const noexcept { return joint_; }
  void bind_sum_over_replicas(std::function<void(std::span<float>)> sum) { sum_over_replicas_ = std::move(sum); }

  /// Must every rank run the same steps, with no samples if need be, because parameters are fetched while they run?
  [[nodiscard]] bool reads_on_demand() const noexcept { return sink_ != nullptr && sink_->reads_on_demand(); }

  /// Forward and backward. Gradients are those of weight · loss. Precondition: bind_gradients, and samples if not is_joint().
  const BatchResult& train(const SampleBatch& batch, double weight, const RunOptions& options);
  /// Forward only, with the evaluation graph.
  const BatchResult& evaluate(const SampleBatch& batch);

  /// What `train` has cost so far.
  struct Cost {
    double flops = 0;                             ///< multiplications and additions of all its runs, see Op::flops
    std::int64_t samples = 0;
    std::size_t least_activation_bytes = 0;       ///< what lives at the busiest moment of its largest step
  };
  [[nodiscard]] const Cost& cost() const noexcept { return cost_; }
  [[nodiscard]] std::size_t arena_bytes() const;  ///< of the largest step so far, training or evaluation: all share it

 private:
  struct Prepared {
    Step* step = nullptr;
    std::vector<std::size_t> reads;             // parameters in the order in which the step reads them, where they are fetched then
  };
  struct Fetches {
    Model model;
    std::vector<Value> values;                  // loss, metrics, then (training) gradients and updates
    std::map<std::int64_t, Prepared> steps;     // by samples
  };

  [[nodiscard]] FeedShapes feed_shapes(std::int64_t samples) const;
  [[nodiscard]] std::vector<std::size_t> gradient_order(std::int64_t samples);
  [[nodiscard]] StepHooks training_hooks();
  Step& step_for(Fetches& fetches, std::int64_t samples, bool training);
  [[nodiscard]] const std::vector<std::size_t>& parameters_among(std::span<const int> variables);
  void before_read(std::span<const int> variables);
  void set_feeds(const SampleBatch& batch);
  const BatchResult& read(Step& step);

  Graph graph_;
  std::vector<Field> fields_;
  std::vector<Value> placeholders_;             // the fields, then the weight
  std::vector<std::string> metric_names_;
  std::unique_ptr<Session> session_;
  Fetches training_, evaluation_;
  Value weight_;
  Tensor weight_value_;
  std::vector<Tensor> feeds_;
  std::size_t gradients_ = 0;
  std::vector<bool> consumed_;                  // by gradient: it has no memory of its own
  int backward_from_ = -1;                      // the first node of the backward pass
  GradientSink* sink_ = nullptr;                // null before `bind_gradients`: this replica only evaluates
  std::vector<std::ptrdiff_t> parameter_of_;    // by node; -1: none; empty if nobody asks
  std::vector<std::size_t> read_;               // parameters among some variables, such as those of the node that is about to run
  const Step* running_ = nullptr;
  std::function<void(std::span<float>)> sum_over_replicas_;
  bool joint_ = false;
  BatchResult result_;
  Cost cost_;
};

}  // namespace cohort
