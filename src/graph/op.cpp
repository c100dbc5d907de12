#include "cohort/graph/op.hpp"

#include <fmt/core.h>

#include "cohort/graph/graph.hpp"

namespace cohort {

std::string Signature::text() const { return std::string(name(dtype)) + shape.text(); }

void Inference::refuse(const std::string& why) const {
  std::string inputs;
  for (const auto& input : in_) inputs += (inputs.empty() ? "" : ", ") + input.text();
  fail(Code::invalid_argument, fmt::format("{} '{}': {} (inputs: {})", op_, node_, why, inputs.empty() ? "none" : inputs));
}

const Signature& Inference::in(std::size_t i) const {
  if (i >= in_.size()) refuse(fmt::format("input {} is missing", i));
  return in_[i];
}

void Inference::expect_inputs(std::size_t n) const {
  if (in_.size() != n) refuse(fmt::format("takes {} inputs, got {}", n, in_.size()));
}

void Inference::expect_dtype(std::size_t i, DType dtype) const {
  if (in(i).dtype != dtype) refuse(fmt::format("input {} must be {}", i, name(dtype)));
}

void Inference::expect_float(std::size_t i) const { expect_dtype(i, DType::float32); }

void Inference::expect_same_dtype(std::size_t i, std::size_t j) const {
  if (in(i).dtype != in(j).dtype) refuse(fmt::format("inputs {} and {} must have the same element type", i, j));
}

void Inference::expect_rank(std::size_t i, std::size_t rank) const {
  if (in(i).shape.rank() != rank) refuse(fmt::format("input {} must have {} dimensions", i, rank));
}

Shape Inference::expect_same_shape(std::size_t i, std::size_t j) const {
  if (!compatible(in(i).shape, in(j).shape)) refuse(fmt::format("inputs {} and {} must have the same shape", i, j));
  Shape result = in(i).shape;
  for (std::size_t d = 0; d < result.rank(); ++d) {
    const auto at = static_cast<std::int64_t>(d);
    if (result[at] == Shape::kUnknown) result.set(at, in(j).shape[at]);
  }
  return result;
}

Shape Inference::broadcast(std::size_t i, std::size_t j) const {
  const auto shape = cohort::broadcast(in(i).shape, in(j).shape);
  if (!shape) refuse(fmt::format("the shapes of inputs {} and {} do not broadcast", i, j));
  return *shape;
}

std::size_t Inference::axis(std::size_t i, std::int64_t axis) const {
  const auto rank = static_cast<std::int64_t>(in(i).shape.rank());
  const std::int64_t at = axis < 0 ? axis + rank : axis;
  if (at < 0 || at >= rank) refuse(fmt::format("axis {} is outside input {}", axis, i));
  return static_cast<std::size_t>(at);
}

std::vector<Signature> same_as_first(const Inference& c) {
  c.expect_inputs(1);
  c.expect_float(0);
  return {c.in(0)};
}

std::vector<Signature> same_as_both(const Inference& c) {
  c.expect_inputs(2);
  c.expect_float(0);
  c.expect_float(1);
  return {{c.in(0).dtype, c.expect_same_shape(0, 1)}};
}

std::vector<Signature> broadcast_both(const Inference& c) {
  c.expect_inputs(2);
  c.expect_same_dtype(0, 1);
  return {{c.in(0).dtype, c.broadcast(0, 1)}};
}

}  // namespace cohort
