#include "cohort/run/replica.hpp"

#include <algorithm>

#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"

namespace cohort {
namespace {

Shape batched(const Shape& sample, std::int64_t samples) {
  Shape shape = sample;
  shape.insert(0, samples);
  return shape;
}

void check_model(const Model& model) {
  const auto scalar = [](Value v) { return v && v.dtype() == DType::float32 && v.shape().rank() == 0; };
  check(scalar(model.loss), Code::invalid_argument, "a model's loss must be a float32 scalar" + (model.loss ? ", it is " + model.loss.signature().text() : ""));
  for (const auto& [name, value] : model.metrics) {
    check(scalar(value), Code::invalid_argument, "the model's metric '" + name + "' must be a float32 scalar");
  }
}

}  // namespace

Replica::Replica(const ModelBuilder& build, const std::vector<Field>& fields, const SessionOptions& options) : fields_(fields) {
  Batch batch;
  for (const Field& field : fields_) {
    const Value value = graph_.placeholder(field.name, field.dtype, batched(field.shape, Shape::kUnknown));
    batch.fields.emplace(field.name, value);
    placeholders_.push_back(value);
  }
  weight_ = graph_.placeholder("loss_weight", DType::float32, {});
  placeholders_.push_back(weight_);
  batch.training = true;
  training_.model = build(graph_, batch);
  batch.training = false;
  evaluation_.model = build(graph_, batch);
  for (Fetches* fetches : {&training_, &evaluation_}) {
    check_model(fetches->model);
    fetches->values.push_back(fetches->model.loss);
    for (const auto& [name, value] : fetches->model.metrics) fetches->values.push_back(value);
  }
  for (const auto& [name, value] : training_.model.metrics) metric_names_.push_back(name);
  for (int id = 0; id < graph_.size(); ++id) joint_ = joint_ || graph_.node(id).attrs.get("over_replicas", false);
  result_.metrics.resize(metric_names_.size());
  weight_value_ = Tensor::zeros({});
  feeds_.resize(placeholders_.size());
  feeds_.back() = weight_value_;
  session_ = std::make_unique<Session>(graph_, options);
}

void Replica::bind_gradients(const ParameterLayout& layout, GradientSink& sink, std::int64_t samples) {
  sink_ = &sink;
  std::vector<Value> variables;
  for (const Parameter& parameter : layout.trained()) variables.push_back(parameter.variable);
  backward_from_ = graph_.size();
  std::vector<Value> gradient_values = gradients(training_.model.loss * weight_, variables);
  gradients_ = gradient_values.size();
  for (std::size_t p = 0; p < gradient_values.size(); ++p) {
    // Two parameters can have one and the same gradient; each needs it in its own memory.
    const auto seen = gradient_values.begin() + static_cast<std::ptrdiff_t>(p);
    if (std::find(gradient_values.begin(), seen, *seen) != seen) {
      const Shape& shape = layout.trained()[p].shape;
      *seen = reshape(*seen, {shape.begin(), shape.end()});
    }
    const Tensor memory = sink_->gradient(p);
    if (!memory.empty()) session_->bind(*seen, memory);
    consumed_.push_back(memory.empty());
    training_.values.push_back(*seen);
  }
  for (const Value& update : graph_.updates()) training_.values.push_back(update);
  if (std::ranges::find(consumed_, true) != consumed_.end()) sink_->follow_gradients(gradient_order(samples));
  if (!reads_on_demand()) return;
  parameter_of_.assign(static_cast<std::size_t>(graph_.size()), -1);
  for (std::size_t p = 0; p < variables.size(); ++p) parameter_of_[static_cast<std::size_t>(variables[p].node)] = static_cast<std::ptrdiff_t>(p);
}

FeedShapes Replica::feed_shapes(std::int64_t samples) const {
  FeedShapes shapes;
  for (std::size_t f = 0; f < fields_.size(); ++f) shapes.emplace_back(placeholders_[f], batched(fields_[f].shape, samples));
  shapes.emplace_back(weight_, Shape{});
  return shapes;
}

/// However many samples a step has, its nodes come in the order of the graph; a model may be made for one number of them.
std::vector<std::size_t> Replica::gradient_order(std::int64_t samples) {
  const std::size_t first = 1 + metric_names_.size();
  std::vector<std::size_t> order;
  for (const std::size_t fetch : session_->order(training_.values, feed_shapes(samples)).fetches) {
    if (fetch >= first && fetch < first + gradients_) order.push_back(fetch - first);
  }
  return order;
}

StepHooks Replica::training_hooks() {
  const std::size_t first = 1 + metric_names_.size();
  StepHooks hooks;
  hooks.ready = [this, first](std::size_t fetch) {
    if (fetch >= first && fetch < first + gradients_) sink_->ready(fetch - first, &running_->fetch(fetch));
  };
  hooks.poll = [this] { sink_->poll(); };
  hooks.consumed.resize(training_.values.size());
  for (std::size_t p = 0; p < gradients_; ++p) hooks.consumed[first + p] = consumed_[p];
  hooks.sum_over_replicas = sum_over_replicas_;
  hooks.backward_from = backward_from_;
  return hooks;
}

Step& Replica::step_for(Fetches& fetches, std::int64_t samples, bool training) {
  Prepared& prepared = fetches.steps[samples];
  if (prepared.step == nullptr) {
    StepHooks hooks;
    if (training) hooks = training_hooks();
    if (reads_on_demand()) hooks.before_read = [this](std::span<const int> variables) { before_read(variables); };
    prepared.step = &session_->prepare(fetches.values, feed_shapes(samples), std::move(hooks));
    if (reads_on_demand()) prepared.reads = parameters_among(prepared.step->order().reads);
  }
  if (reads_on_demand()) sink_->follow_reads(prepared.reads);
  return *prepared.step;
}

/// In their order.
const std::vector<std::size_t>& Replica::parameters_among(std::span<const int> variables) {
  read_.clear();
  for (const int variable : variables) {
    const std::ptrdiff_t p = parameter_of_[static_cast<std::size_t>(variable)];
    if (p >= 0) read_.push_back(static_cast<std::size_t>(p));
  }
  return read_;
}

void Replica::before_read(std::span<const int> variables) {
  if (!parameters_among(variables).empty()) sink_->before_read(read_);
}

void Replica::set_feeds(const SampleBatch& batch) {
  for (std::size_t f = 0; f < fields_.size(); ++f) feeds_[f] = batch.fields[f].tensor;
}

const BatchResult& Replica::read(Step& step) {
  const auto scalar = [](const Tensor& value) {
    if (value.device().info().host_accessible) return static_cast<double>(*value.data<float>());
    return static_cast<double>(value.to_vector<float>().front());
  };
  result_.loss = scalar(step.fetch(0));
  for (std::size_t m = 0; m < result_.metrics.size(); ++m) result_.metrics[m] = scalar(step.fetch(1 + m));
  return result_;
}

const BatchResult& Replica::train(const SampleBatch& batch, double weight, const RunOptions& options) {
  *weight_value_.data<float>() = static_cast<float>(weight);
  set_feeds(batch);
  Step& step = step_for(training_, batch.samples, true);
  running_ = &step;
  step.run(feeds_, options);
  cost_.flops += step.flops();
  cost_.samples += batch.samples;
  cost_.least_activation_bytes = std::max(cost_.least_activation_bytes, step.least_arena_bytes());
  return read(step);
}

std::size_t Replica::arena_bytes() const {
  std::size_t most = 0;
  for (const Fetches* fetches : {&training_, &evaluation_}) {
    for (const auto& [samples, prepared] : fetches->steps) most = std::max(most, prepared.step->arena_bytes());
  }
  return most;
}

const BatchResult& Replica::evaluate(const SampleBatch& batch) {
  set_feeds(batch);
  Step& step = step_for(evaluation_, batch.samples, false);
  step.run(feeds_);
  return read(step);
}

}  // namespace cohort
