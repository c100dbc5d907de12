#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cohort/graph/op.hpp"

namespace cohort {

class Graph;

/// One output of one node. A default-constructed Value is absent.
struct Value {
  Graph* graph = nullptr;
  int node = -1;
  int output = 0;
  [[nodiscard]] explicit operator bool() const noexcept { return graph != nullptr; }
  [[nodiscard]] const Signature& signature() const;
  [[nodiscard]] const Shape& shape() const { return signature().shape; }
  [[nodiscard]] DType dtype() const { return signature().dtype; }
  [[nodiscard]] std::string name() const;              ///< "hidden/matmul:0"
  friend bool operator==(const Value&, const Value&) = default;
};

/// A handle to a node; converts to its first output.
struct Node {
  Graph* graph = nullptr;
  int id = -1;
  [[nodiscard]] Value operator[](int output) const { return {graph, id, output}; }
  operator Value() const { return {graph, id, 0}; }  // NOLINT: a node with one output is its value
};

/// Everything the graph knows about a node.
struct NodeData {
  std::string op, name;
  const Op* definition = nullptr;
  std::vector<Value> inputs;
  std::vector<int> control;                            ///< nodes that must have run before
  Attrs attrs;
  std::vector<Signature> outputs;
  std::string device;                                  ///< the request in force when it was added, "" = anywhere
  std::string container;                               ///< for resources, "" = the default one
};

/// Takes back what it set when it goes out of scope.
class [[nodiscard]] Scope {
 public:
  explicit Scope(std::function<void()> undo) : undo_(std::move(undo)) {}
  Scope(Scope&& other) noexcept : undo_(std::exchange(other.undo_, nullptr)) {}
  Scope& operator=(Scope&&) = delete;
  ~Scope() {
    if (undo_) undo_();
  }

 private:
  std::function<void()> undo_;
};

/// An append-only dataflow graph: a node's inputs exist before it, so node order is a topological order, and parameters
/// have the same order on every rank that builds the same model. Defining runs nothing. Not thread-safe.
class Graph {
 public:
  using DeviceFunction = std::function<std::string(const NodeData&)>;

  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /// Infers and checks now. Errors name the op, the input and the shapes. `name` "" takes the op's; made unique.
  Node add(std::string_view op, std::vector<Value> inputs, Attrs attrs = {}, std::string_view name = {});

  Value placeholder(std::string_view name, DType dtype, const Shape& shape);
  Value constant(const Tensor& value, std::string_view name = "constant");
  Value constant(float value) { return constant(Tensor::scalar(value)); }

  /// The variable of that full name, made at the first call (a second call must agree in type and shape, so a model can be
  /// built once for training and once for evaluation on the same parameters). `init`: "zeros", "ones", "constant",
  /// "normal", "uniform", "glorot_uniform", "he_normal", "he_uniform"; `scale`: value, deviation or bound, else a gain.
  Value variable(std::string_view name, const Shape& shape, std::string_view init, double scale = 1.0, bool trainable = true);

  /// Work that belongs to every training step beside the loss (running statistics): fetched with it.
  void add_update(Value update) { updates_.push_back(update); }
  [[nodiscard]] const std::vector<Value>& updates() const noexcept { return updates_; }

  Scope device(std::string_view spec);                 ///< "/job:ps/task:0/device:GPU:1" or a part of it
  Scope device(DeviceFunction function);
  Scope colocate(Value with);
  Scope depends_on(const std::vector<Value>& values);
  Scope container(std::string_view name);
  Scope name_scope(std::string_view name);             ///< "hidden" gives "hidden/matmul"

  [[nodiscard]] int size() const noexcept { return static_cast<int>(nodes_.size()); }
  [[nodiscard]] const NodeData& node(int id) const { return *nodes_[static_cast<std::size_t>(id)]; }
  [[nodiscard]] std::vector<Value> variables(bool trainable_only = false) const;   ///< in order of definition
  [[nodiscard]] Value find(std::string_view name) const;                           ///< absent if there is none
  /// A text that two graphs share exactly when they have the same nodes in the same order: hashed for the agreement check.
  [[nodiscard]] std::string text() const;

 private:
  [[nodiscard]] std::string unique_name(std::string_view base);

  std::vector<std::unique_ptr<NodeData>> nodes_;       // stable addresses: signatures are handed out by reference
  std::map<std::string, int, std::less<>> by_name_;
  std::map<std::string, int, std::less<>> name_counts_;
  std::vector<Value> updates_;
  std::vector<DeviceFunction> device_stack_;
  std::vector<int> control_stack_;
  std::string container_, prefix_;
};

}  // namespace cohort
