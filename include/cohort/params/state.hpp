#pragma once

#include <cstdint>
#include <string>

#include "cohort/tensor/shape.hpp"
#include "cohort/tensor/tensor.hpp"

namespace cohort {

/// Is shown a state to keep a copy of it. A tensor is a handle of memory, so it is up to the writer to change none of it.
class StateWriter {
 public:
  virtual ~StateWriter() = default;
  /// A dense tensor on any device, by logical name: "parameters/hidden/weight", "slots/m/hidden/weight".
  virtual void tensor(const std::string& name, const Tensor& value) = 0;
  /// A piece of a float32 tensor that several ranks keep between them: `values` (dense, one dimension, maybe none) are its
  /// elements from `begin` on, in row-major order of `whole`. Every rank shows every such tensor, once.
  virtual void piece(const std::string& name, const Shape& whole, std::int64_t begin, const Tensor& values) = 0;
  virtual void value(const std::string& name, std::int64_t value) = 0;
  virtual void value(const std::string& name, double value) = 0;
  virtual void text(const std::string& name, const std::string& value) = 0;
  /// As `value`: for what `StateReader::added_value` reads.
  void added_value(const std::string& name, std::int64_t value) { this->value(name, value); }
};

/// Fills a state with what somebody has kept of it. All is meant as for a StateWriter.
class StateReader {
 public:
  virtual ~StateReader() = default;
  /// Writes into the memory of `value`.
  virtual void tensor(const std::string& name, const Tensor& value) = 0;
  virtual void piece(const std::string& name, const Shape& whole, std::int64_t begin, const Tensor& values) = 0;
  virtual void value(const std::string& name, std::int64_t& value) = 0;
  virtual void value(const std::string& name, double& value) = 0;
  virtual void text(const std::string& name, std::string& value) = 0;
  /// As `value`; a checkpoint of an earlier version may lack it, and then it stays as it is.
  virtual void added_value(const std::string& name, std::int64_t& value) { this->value(name, value); }
};

/// Something that a checkpoint must hold. Where the two directions name the same things, one template can describe both.
class Stateful {
 public:
  virtual ~Stateful() = default;
  virtual void save(StateWriter&) const {}
  /// A reader that only asks what is wanted leaves everything as it is, so `load` must not change a state by itself.
  virtual void load(StateReader&) {}
};

}  // namespace cohort
