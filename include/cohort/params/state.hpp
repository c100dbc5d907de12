#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cohort/tensor/tensor.hpp"

namespace cohort {

/// One visit both saves and loads: a loader writes into what it is shown, a saver reads it.
class StateVisitor {
 public:
  virtual ~StateVisitor() = default;
  /// A dense tensor on any device, by logical name: "parameters/hidden/weight", "slots/m/hidden/weight".
  virtual void tensor(const std::string& name, const Tensor& value) = 0;
  /// A piece of a float32 tensor that several ranks keep between them: `values` (dense, one dimension, maybe none) are its
  /// elements from `begin` on, in row-major order of `whole`. Every rank shows every such tensor, once.
  virtual void piece(const std::string& name, const Shape& whole, std::int64_t begin, const Tensor& values) = 0;
  virtual void value(const std::string& name, std::int64_t& value) = 0;
  virtual void value(const std::string& name, double& value) = 0;
  virtual void text(const std::string& name, std::string& value) = 0;
  /// As `value`; a checkpoint of an earlier version may lack it, and then it stays as it is.
  virtual void added_value(const std::string& name, std::int64_t& value) { this->value(name, value); }
};

/// Something that a checkpoint must hold.
class Stateful {
 public:
  virtual ~Stateful() = default;
  virtual void visit(StateVisitor& visitor) = 0;
};

}  // namespace cohort
