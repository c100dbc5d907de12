#include "exec/executor.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "cohort/base/clock.hpp"
#include "exec/leading_dimensions.hpp"
#include "exec/step_order.hpp"

namespace cohort {
namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

const KernelFactory& factory_of(const std::string& op, const std::string& family) {
  const std::string key = op + "@" + family;
  if (const auto* found = Registry<KernelFactory>::instance().find(key)) return *found;
  fail(Code::not_found, fmt::format("op '{}' has no kernel for {} devices", op, family));
}

std::vector<Signature> signatures(const Plan& plan, const std::vector<PlanValue>& values) {
  std::vector<Signature> result;
  for (const PlanValue v : values) result.push_back(plan.signature(v));
  return result;
}

}  // namespace

struct Executor::Action {
  Kernel* kernel = nullptr;
  KernelContext context;
  std::vector<DenseCopy> before, after;                // for kernels that take dense tensors only; for second bindings
  std::vector<std::size_t> ready;                      // fetches that are there once this has run
  std::vector<int> reads;                              // variables, where a hook wants to know
  std::vector<Action*> wait_for;                       // unfinished work that must be done first
  std::vector<std::unique_ptr<Tensor>> dense;          // inputs brought to dense form
  std::atomic<bool> finished = true;
  bool later = false;
  int node = -1;
  std::uint32_t name = 0;                              // in the trace
};

Executor::Executor(Plan plan, const ExternalMemory& memory, Device& device, ThreadPool& pool, StepHooks hooks,
                   const ExecutorOptions& options)
    : plan_(std::move(plan)), order_(order_of(plan_, device.info().kernels)), device_(device), hooks_(std::move(hooks)),
      profile_(options.profile), wait_limit_(options.wait_limit) {
  make_kernels(pool);
  LeadingDimensionRequest rows;
  MemoryRequest request;
  request.consumed = hooks_.consumed;
  for (const auto& kernel : kernels_) {
    request.finishes_later.push_back(kernel && kernel->finishes_later());
    rows.runs.push_back(kernel != nullptr);
    rows.any_ld.push_back(kernel && kernel->any_ld());
  }
  for (const Tensor& bound : memory.bound_fetches) rows.bound_ld.push_back(bound.empty() ? 0 : bound.ld());
  ld_ = request.ld = choose_leading_dimensions(plan_, rows);
  for (std::size_t f = 0; f < plan_.fetches.size(); ++f) {
    const Tensor& bound = memory.bound_fetches[f];
    // Computed in place only where it can be written as it lies.
    request.bound_fetches.push_back(!bound.empty() && ld_[at(plan_.fetches[f].node)][at(plan_.fetches[f].output)] == bound.ld());
  }
  memory_ = plan_memory(plan_, request);
  arena_ = memory.arena ? memory.arena(memory_.arena_bytes) : device_.allocate(memory_.arena_bytes);
  place_values(memory);
  make_actions(pool);
  place_fetches(memory);
  if (profile_ != nullptr) name_spans();
}

Executor::~Executor() = default;

void Executor::make_kernels(ThreadPool& pool) {
  const std::string& family = device_.info().kernels;
  for (const PlanNode& node : plan_.nodes) {
    if (!runs_kernel(node, family)) {
      kernels_.emplace_back();
      continue;
    }
    const auto in = signatures(plan_, node.inputs);
    if (node.definition->flops != nullptr) flops_ += node.definition->flops(in, node.outputs, node.attrs);
    kernels_.push_back(factory_of(node.op, family).make(NodeInfo{node.name, node.attrs, in, node.outputs, device_, pool}));
  }
}

void Executor::place_values(const ExternalMemory& memory) {
  views_of_feed_.resize(plan_.feeds.size());
  fed_.resize(plan_.feeds.size());
  std::vector<int> feed_of(plan_.nodes.size(), -1);
  for (std::size_t f = 0; f < plan_.feeds.size(); ++f) {
    if (plan_.feeds[f].node >= 0) feed_of[at(plan_.feeds[f].node)] = static_cast<int>(f);
  }
  for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
    const PlanNode& node = plan_.nodes[i];
    auto& mine = slots_.emplace_back();
    for (std::size_t o = 0; o < node.outputs.size(); ++o) {
      const Signature& s = node.outputs[o];
      const auto view = std::find_if(node.definition->reuse.begin(), node.definition->reuse.end(),
                                     [&](const Reuse& r) { return r.view && at(r.output) == o; });
      const MemoryPlan::Group& group = memory_.groups[at(memory_.group[i][o])];
      if (view != node.definition->reuse.end()) {
        const PlanValue input = node.inputs[at(view->input)];
        const Tensor& whole = slot(input);
        mine.push_back(s.shape == whole.shape() ? whole : view_of(whole, s.shape, static_cast<int>(i)));
        if (feed_of[at(input.node)] >= 0) {
          if (kernels_[i]) {
            fail(Code::invalid_argument, fmt::format("{} '{}' writes the feed '{}', it may write variables only", node.op, node.name,
                                                     plan_.nodes[at(input.node)].name));
          }
          feed_of[i] = feed_of[at(input.node)];
          views_of_feed_[at(feed_of[i])].push_back(static_cast<int>(i));
        }
      } else if (node.op == "Variable") {
        mine.push_back(memory.variable(node));
      } else if (node.op == "Constant") {
        Tensor value(device_, s.dtype, s.shape);
        value.copy_from(node.attrs.get<Tensor>("value"));
        mine.push_back(std::move(value));
      } else if (node.op == "Placeholder") {
        const bool staged = !device_.info().host_accessible;
        mine.push_back(staged ? Tensor(device_, s.dtype, s.shape) : Tensor(device_, s.dtype, s.shape, nullptr));
        if (feed_of[i] >= 0 && staged) fed_[at(feed_of[i])] = mine.back();
        if (feed_of[i] >= 0) views_of_feed_[at(feed_of[i])].push_back(static_cast<int>(i));
      } else if (group.place == MemoryPlan::Place::bound) {
        const Tensor& bound = memory.bound_fetches[at(group.binding)];
        mine.emplace_back(device_, s.dtype, s.shape, bound.raw(), bound.owner(), ld_[i][o]);
      } else {
        mine.emplace_back(device_, s.dtype, s.shape, static_cast<std::byte*>(arena_.memory.get()) + group.offset, arena_.memory, ld_[i][o]);
      }
    }
  }
}

/// Rows of another length cannot be seen in padded memory (a variable's): then it is a view of a dense copy.
Tensor Executor::view_of(const Tensor& whole, const Shape& shape, int node) {
  if (whole.dense() || whole.columns() == shape.columns()) return whole.reshaped(shape);
  const Tensor copy(device_, whole.dtype(), whole.shape());
  dense_views_.emplace(node, DenseCopy{whole, copy});
  return copy.reshaped(shape);
}

/// Adds the copies that must be made before v is read: of all such views that it is, or is a view of.
void Executor::copy_views(PlanValue v, std::vector<DenseCopy>& copies) const {
  while (!kernels_[at(v.node)] && !plan_.nodes[at(v.node)].inputs.empty()) {
    if (const auto view = dense_views_.find(v.node); view != dense_views_.end()) copies.push_back(view->second);
    v = plan_.nodes[at(v.node)].inputs[0];
  }
}

const Tensor* Executor::input_of(Action& action, PlanValue v, bool any_ld) {
  copy_views(v, action.before);
  const Tensor& value = slot(v);
  if (any_ld || value.dense()) return &value;
  auto& copy = *action.dense.emplace_back(std::make_unique<Tensor>(device_, value.dtype(), value.shape()));
  action.before.push_back({value, copy});
  return &copy;
}

void Executor::make_actions(ThreadPool& pool) {
  // A kernel written for the host's memory runs on an immediate stream, inside a launch where the device is asynchronous.
  Stream& stream = device_.info().kernels == "CPU" ? host().stream() : device_.stream();
  action_of_.assign(plan_.nodes.size(), -1);
  for (std::size_t i = 0; i < plan_.nodes.size(); ++i) {
    if (!kernels_[i]) continue;
    const PlanNode& node = plan_.nodes[i];
    auto action = std::make_unique<Action>();
    action->kernel = kernels_[i].get();
    action->node = static_cast<int>(i);
    action->later = action->kernel->finishes_later();
    for (const PlanValue input : node.inputs) action->context.in_.push_back(input_of(*action, input, action->kernel->any_ld()));
    for (Tensor& output : slots_[i]) action->context.out_.push_back(&output);
    action->context.pool_ = &pool;
    action->context.stream_ = &stream;
    action->context.options_ = &options_;
    action->context.sum_over_replicas_ = &hooks_.sum_over_replicas;
    action->context.done_ = [raw = action.get()] { raw->finished.store(true, std::memory_order_release); };
    const auto wait_for = [&](int producer) {
      if (action_of_[at(producer)] >= 0 && actions_[at(action_of_[at(producer)])]->later) {
        action->wait_for.push_back(actions_[at(action_of_[at(producer)])].get());
      }
    };
    for (PlanValue input : node.inputs) {
      wait_for(input.node);
      while (!kernels_[at(input.node)] && !plan_.nodes[at(input.node)].inputs.empty()) {   // through free views
        input = plan_.nodes[at(input.node)].inputs[0];
        wait_for(input.node);
      }
    }
    for (const int before : node.control) wait_for(before);
    if (hooks_.before_read) action->reads = variables_read(plan_, node);
    action_of_[i] = static_cast<int>(actions_.size());
    actions_.push_back(std::move(action));
  }
}

void Executor::place_fetches(const ExternalMemory& memory) {
  for (std::size_t f = 0; f < plan_.fetches.size(); ++f) {
    const Tensor& value = slot(plan_.fetches[f]);
    PlanValue producer = plan_.fetches[f];
    while (!kernels_[at(producer.node)] && !plan_.nodes[at(producer.node)].inputs.empty())
      producer = plan_.nodes[at(producer.node)].inputs[0];
    const int action = action_of_[at(producer.node)];
    const Tensor& bound = memory.bound_fetches[f];
    const auto feed = std::find_if(plan_.feeds.begin(), plan_.feeds.end(), [&](PlanValue v) { return v.node == producer.node; });
    const bool fed = feed != plan_.feeds.end() && fed_[static_cast<std::size_t>(feed - plan_.feeds.begin())].empty();
    if (fed) fetched_feeds_.push_back({f, static_cast<std::size_t>(feed - plan_.feeds.begin()), !bound.empty()});
    const bool copied = !fed && !bound.empty() && bound.raw() != value.raw() && value.elements() > 0;
    std::vector<DenseCopy>& copies = action >= 0 ? actions_[at(action)]->after : start_copies_;
    copy_views(plan_.fetches[f], copies);
    if (copied) copies.push_back({value, bound});
    fetches_.push_back(bound.empty() ? value : bound);
    (action >= 0 ? actions_[at(action)]->ready : ready_at_start_).push_back(f);
  }
}

void Executor::set_feeds(std::span<const Tensor> feeds) {
  if (feeds.size() != plan_.feeds.size()) {
    fail(Code::invalid_argument, fmt::format("the step takes {} feeds, got {}", plan_.feeds.size(), feeds.size()));
  }
  for (std::size_t f = 0; f < feeds.size(); ++f) {
    if (plan_.feeds[f].node < 0) continue;
    const PlanNode& node = plan_.nodes[at(plan_.feeds[f].node)];
    const Signature& s = node.outputs[0];
    if (feeds[f].empty() || feeds[f].dtype() != s.dtype || feeds[f].shape() != s.shape || !feeds[f].dense()) {
      fail(Code::invalid_argument,
           fmt::format("feed of '{}': the step was prepared for a dense {}{}", node.name, s.text(),
                       feeds[f].empty() ? ", got none" : ", got " + Signature{feeds[f].dtype(), feeds[f].shape()}.text()));
    }
    if (!fed_[f].empty()) {
      device_.stream().copy(fed_[f].raw(), feeds[f].raw(), feeds[f].bytes());
    } else {
      for (const int view : views_of_feed_[f]) slots_[at(view)][0].set_data(feeds[f].raw());
    }
  }
  for (const FetchedFeed& both : fetched_feeds_) {
    if (both.bound) fetches_[both.fetch].copy_from(slot(plan_.fetches[both.fetch]));
    else fetches_[both.fetch].set_data(feeds[both.feed].raw());
  }
}

void Executor::wait(const Action& action) {
  if (action.finished.load(std::memory_order_acquire)) return;
  Clock& clock = Clock::steady();
  Backoff backoff(clock);
  const double since = clock.now();
  for (unsigned polls = 0; !action.finished.load(std::memory_order_acquire); ++polls) {
    if (hooks_.poll) hooks_.poll();
    backoff.pause();
    if (polls % 64 == 0 && clock.now() - since > wait_limit_) miss(action);
  }
}

void Executor::miss(const Action& action) const {
  const PlanNode& node = plan_.nodes[at(action.node)];
  fail(Code::deadline_exceeded, fmt::format("{} '{}' on {} has not finished at step {} within {:g} s of waiting for it", node.op, node.name,
                                            device_.info().name(), options_.step, wait_limit_));
}

void Executor::deliver(const std::vector<std::size_t>& fetches) {
  if (!hooks_.ready) return;
  for (const std::size_t f : fetches) hooks_.ready(f);
}

void Executor::run_action(Action& action) {
  for (Action* other : action.wait_for) wait(*other);
  if (!action.reads.empty()) hooks_.before_read(action.reads);
  if (action.later) action.finished.store(false, std::memory_order_relaxed);
  const auto copy = [](const DenseCopy& c) { c.to.copy_from(c.from); };
  for (const DenseCopy& c : action.before) copy(c);
  if (trace_ == nullptr) {
    run_kernel(action);
  } else {
    const TraceSpan span(*profile_, *trace_, action.name);
    run_kernel(action);
  }
  if (action.after.empty() && action.ready.empty()) return;
  if (action.later) wait(action);
  for (const DenseCopy& c : action.after) copy(c);
  deliver(action.ready);
}

void Executor::run_kernel(Action& action) {
  if (device_.stream().immediate() || device_.info().kernels != "CPU") action.kernel->run(action.context);
  else device_.stream().launch([&action] { action.kernel->run(action.context); });
}

void Executor::name_spans() {
  first_backward_ = actions_.size();
  for (std::size_t a = 0; a < actions_.size(); ++a) {
    const PlanNode& node = plan_.nodes[at(actions_[a]->node)];
    actions_[a]->name = profile_->name(node.name);
    if (hooks_.backward_from >= 0 && node.origin >= hooks_.backward_from) first_backward_ = std::min(first_backward_, a);
  }
  forward_name_ = profile_->name("forward");
  backward_name_ = profile_->name("backward");
}

void Executor::run_actions(std::size_t begin, std::size_t end) {
  for (std::size_t a = begin; a < end; ++a) {
    run_action(*actions_[a]);
    if (hooks_.poll) hooks_.poll();
  }
}

void Executor::run_traced(std::uint32_t name, std::size_t begin, std::size_t end) {
  const TraceSpan span(*profile_, *trace_, name);
  run_actions(begin, end);
}

void Executor::run(std::span<const Tensor> feeds, const RunOptions& options) {
  if (!device_.stream().immediate()) device_.stream().synchronize();   // the last run may still read feeds and options
  options_ = options;
  set_feeds(feeds);
  for (const DenseCopy& c : start_copies_) c.to.copy_from(c.from);
  deliver(ready_at_start_);
  trace_ = profile_ != nullptr && profile_->main().on() ? &profile_->main() : nullptr;
  if (trace_ == nullptr) {
    run_actions(0, actions_.size());
  } else {
    run_traced(forward_name_, 0, first_backward_);
    if (first_backward_ < actions_.size()) run_traced(backward_name_, first_backward_, actions_.size());
  }
  for (const auto& action : actions_) {
    if (action->later) wait(*action);
  }
}

std::string Executor::text() const {
  std::string text;
  for (const auto& action : actions_) {
    const PlanNode& node = plan_.nodes[at(action->node)];
    text += fmt::format("{:4} {:24} {:40}", action->node, node.op, node.name);
    for (std::size_t o = 0; o < node.outputs.size(); ++o) {
      const auto& group = memory_.groups[at(memory_.group[at(action->node)][o])];
      text += " " + node.outputs[o].text();
      text += group.place == MemoryPlan::Place::arena ? fmt::format("@{}", group.offset) : "@bound";
    }
    text += '\n';
  }
  return text;
}

Tensor run_on_host(const PlanNode& node, const std::vector<Tensor>& in) {
  Plan plan;
  for (const Tensor& value : in) {
    PlanNode source{.op = "Constant", .name = "in", .definition = &Registry<Op>::instance().get("Constant"), .attrs = {{"value", value}},
                    .outputs = {{value.dtype(), value.shape()}}};
    plan.nodes.push_back(std::move(source));
  }
  PlanNode last = node;
  for (std::size_t i = 0; i < in.size(); ++i) last.inputs[i] = {static_cast<int>(i), 0};
  plan.nodes.push_back(std::move(last));
  plan.fetches = {{static_cast<int>(in.size()), 0}};
  ThreadPool pool(1);
  Executor executor(std::move(plan), {.variable = {}, .bound_fetches = {Tensor{}}, .arena = {}}, host(), pool, {});
  executor.run({}, {});
  Tensor result(host(), node.outputs[0].dtype, node.outputs[0].shape);
  result.copy_from(executor.fetch(0));
  return result;
}

}  // namespace cohort
