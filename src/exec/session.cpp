#include "cohort/exec/session.hpp"

#include <fmt/core.h>

#include <map>
#include <set>

#include "base/about.hpp"
#include "cohort/graph/device_spec.hpp"
#include "exec/executor.hpp"
#include "exec/initializer.hpp"
#include "exec/passes.hpp"
#include "exec/precision.hpp"
#include "exec/step_order.hpp"

namespace cohort {
namespace {

constexpr int kFixedRanges = 8;     // of work in a deterministic session: as many threads can share it

using ValueKey = std::pair<int, int>;
ValueKey key_of(Value v) { return {v.node, v.output}; }

}  // namespace

struct Step::State {
  std::unique_ptr<Executor> executor;
};

Step::Step(std::unique_ptr<State> state) : state_(std::move(state)) {}
Step::~Step() = default;
void Step::run(std::span<const Tensor> feeds, const RunOptions& options) { state_->executor->run(feeds, options); }
const Tensor& Step::fetch(std::size_t i) const { return state_->executor->fetch(i); }
std::size_t Step::arena_bytes() const { return state_->executor->arena_bytes(); }
std::size_t Step::least_arena_bytes() const { return state_->executor->least_arena_bytes(); }
double Step::flops() const { return state_->executor->flops(); }
const StepOrder& Step::order() const { return state_->executor->order(); }
std::size_t Step::kernels() const { return state_->executor->kernels(); }
std::string Step::text() const { return state_->executor->text(); }

struct Session::State {
  State(Graph& g, const SessionOptions& o) : graph(g), options(o), device(open_device(o.device)), pool(o.threads, o.deterministic ? kFixedRanges : 0) {}

  Graph& graph;
  SessionOptions options;
  std::shared_ptr<Device> device;
  ThreadPool pool;
  Buffer arena;                                            // the largest so far: one step runs at a time
  std::map<std::string, Tensor> variables;                 // by container and name
  std::set<std::string> in_use;                            // variables that a prepared step reads
  struct BoundFetch {
    Tensor storage;
    std::size_t binding = 0;                               // its number among all bindings of fetches
  };
  std::map<ValueKey, BoundFetch> bound_fetches;
  std::size_t bindings = 0;
  std::map<std::string, std::unique_ptr<Step>> cached;
  std::vector<std::unique_ptr<Step>> with_hooks;

  static std::string resource_key(const std::string& container, const std::string& name) { return container + "/" + name; }

  /// All that a step without functions among its hooks is made from.
  [[nodiscard]] std::string step_key(std::span<const Value> fetches, const FeedShapes& feeds, const StepHooks& hooks) const {
    std::string key;
    for (const Value& fetch : fetches) {
      const auto bound = bound_fetches.find(key_of(fetch));
      key += fmt::format("{}:{} in {} ", fetch.node, fetch.output, bound == bound_fetches.end() ? 0 : bound->second.binding);
    }
    for (const auto& [value, shape] : feeds) key += fmt::format("| {} {}", value.node, shape.text());
    key += fmt::format("| from {} consumed ", hooks.backward_from);
    for (const bool consumed : hooks.consumed) key += consumed ? '1' : '0';
    return key;
  }

  const Tensor& variable(const NodeData& node) {
    const auto [at, fresh] = variables.try_emplace(resource_key(node.container, node.name));
    if (fresh) {
      about("parameter '" + node.name + "'", [&] { at->second = Tensor(*device, node.outputs[0].dtype, node.outputs[0].shape); });
      initialise(at->second, node, options.seed);
    }
    return at->second;
  }

  /// One session, one device: every request must be met by it. (Requests for jobs and tasks need a cluster.)
  void check_devices(const Plan& plan) const {
    for (const PlanNode& node : plan.nodes) {
      const std::string& request = graph.node(node.origin).device;
      if (request.empty()) continue;
      const DeviceSpec spec = DeviceSpec::parse(request);
      const DeviceInfo& have = device->info();
      if (spec.job || spec.task.value_or(0) != 0 || (spec.type && *spec.type != have.type) || (spec.index && *spec.index != have.index)) {
        fail(Code::not_found, fmt::format("{} '{}' asks for device '{}'; this session has {}", node.op, node.name, request, have.name()));
      }
    }
  }

  [[nodiscard]] Plan make_final_plan(std::span<const Value> fetches, const FeedShapes& feeds) const {
    Plan plan = make_plan(graph, fetches, feeds);
    check_devices(plan);
    if (options.precision != Precision::fp32) round_products(plan, options.precision == Precision::bf16_native);
    run_passes(plan);
    return plan;
  }

  std::unique_ptr<Executor> make_executor(std::span<const Value> fetches, const FeedShapes& feeds, StepHooks hooks) {
    Plan plan = make_final_plan(fetches, feeds);
    ExternalMemory memory;
    memory.variable = [this](const PlanNode& node) -> const Tensor& {
      in_use.insert(resource_key(node.container, node.name));
      return variable(graph.node(node.origin));
    };
    memory.arena = [this](std::size_t bytes) {
      if (arena.memory == nullptr || arena.bytes < bytes) {
        arena = about("the intermediate values of a batch", [&] { return device->allocate(bytes); });
      }
      return arena;
    };
    for (std::size_t f = 0; f < fetches.size(); ++f) {
      const auto bound = bound_fetches.find(key_of(fetches[f]));
      memory.bound_fetches.push_back(bound == bound_fetches.end() ? Tensor{} : bound->second.storage);
      const Signature& s = plan.signature(plan.fetches[f]);
      const Tensor& storage = memory.bound_fetches.back();
      if (!storage.empty() && (storage.shape() != s.shape || storage.dtype() != s.dtype)) {
        fail(Code::invalid_argument,
             fmt::format("'{}' is {}, bound to memory of shape {}", fetches[f].name(), s.text(), storage.shape().text()));
      }
    }
    return std::make_unique<Executor>(std::move(plan), memory, *device, pool, std::move(hooks),
                                      ExecutorOptions{.profile = options.profile, .wait_limit = options.wait_limit});
  }
};

Session::Session(Graph& graph, const SessionOptions& options) : state_(std::make_unique<State>(graph, options)) {}
Session::~Session() = default;

Graph& Session::graph() const noexcept { return state_->graph; }
Device& Session::device() const noexcept { return *state_->device; }
ThreadPool& Session::pool() const noexcept { return state_->pool; }

void Session::bind(Value value, Tensor storage) {
  check(value.graph == &state_->graph, Code::invalid_argument, "bind of a value of another graph");
  const NodeData& node = state_->graph.node(value.node);
  const Signature& s = value.signature();
  if (storage.dtype() != s.dtype || !compatible(storage.shape(), s.shape)) {
    fail(Code::invalid_argument, fmt::format("'{}' is {}, bound to memory of {}", value.name(), s.text(),
                                             Signature{storage.dtype(), storage.shape()}.text()));
  }
  if (node.op != "Variable") {
    state_->bound_fetches.insert_or_assign(key_of(value), State::BoundFetch{std::move(storage), ++state_->bindings});
    return;
  }
  const std::string key = State::resource_key(node.container, node.name);
  check(!state_->in_use.contains(key), Code::failed_precondition,
        "variable '" + node.name + "' is bound after a step that uses it was prepared");
  state_->variables.insert_or_assign(key, std::move(storage));
}

const Tensor& Session::variable(Value variable) {
  check(variable.graph == &state_->graph && state_->graph.node(variable.node).op == "Variable", Code::invalid_argument,
        "'" + variable.name() + "' is not a variable of this session's graph");
  return state_->variable(state_->graph.node(variable.node));
}

Step& Session::prepare(std::span<const Value> fetches, const FeedShapes& feeds, StepHooks hooks) {
  const bool hooked = hooks.ready || hooks.poll || hooks.before_read || hooks.sum_over_replicas;
  const std::string key = state_->step_key(fetches, feeds, hooks);
  if (!hooked) {
    if (const auto at = state_->cached.find(key); at != state_->cached.end()) return *at->second;
  }
  auto step_state = std::make_unique<Step::State>();
  step_state->executor = state_->make_executor(fetches, feeds, std::move(hooks));
  std::unique_ptr<Step> step(new Step(std::move(step_state)));
  Step& result = *step;
  if (hooked) state_->with_hooks.push_back(std::move(step));
  else state_->cached.emplace(key, std::move(step));
  return result;
}

StepOrder Session::order(std::span<const Value> fetches, const FeedShapes& feeds) {
  return order_of(state_->make_final_plan(fetches, feeds), state_->device->info().kernels);
}

std::vector<Tensor> Session::run(std::span<const Value> fetches, const Feeds& feeds, const RunOptions& options) {
  FeedShapes shapes;
  std::vector<Tensor> tensors;
  for (const auto& [value, tensor] : feeds) {
    shapes.emplace_back(value, tensor.shape());
    tensors.push_back(tensor);
  }
  Step& step = prepare(fetches, shapes);
  step.run(tensors, options);
  std::vector<Tensor> results;
  for (std::size_t i = 0; i < fetches.size(); ++i) {
    const Tensor& value = step.fetch(i);
    results.emplace_back(host(), value.dtype(), value.shape());
    results.back().copy_from(value);
  }
  return results;
}

Tensor Session::run(Value fetch, const Feeds& feeds, const RunOptions& options) {
  return run(std::span(&fetch, 1), feeds, options).front();
}

}  // namespace cohort
