#pragma once

#include <cstddef>
#include <span>

#include "cohort/tensor/tensor.hpp"

namespace cohort {

/// Whoever takes the gradients that a replica computes, one parameter after the other while the backward pass runs. Called on
/// the thread that runs the step. Parameters are counted as in ParameterLayout::trained().
class GradientSink {
 public:
  virtual ~GradientSink() = default;

  /// Where the gradient of a parameter is to be written. An empty tensor: it lies in the step's own memory while `ready` is
  /// called, and no longer.
  [[nodiscard]] virtual Tensor gradient(std::size_t parameter) const = 0;
  /// Collective, before the first step where `gradient` is empty: the order in which a step's gradients become ready.
  virtual void follow_gradients(std::span<const std::size_t> /*order*/) {}
  /// The gradient is there: where `gradient` said or, if that was empty, in `value`. Null: it is zero.
  virtual void ready(std::size_t parameter, const Tensor* value) = 0;
  /// Between two nodes, so that what has begun goes on. Never blocks.
  virtual void poll() = 0;

  /// An update's gradient comes batch by batch: `begin_batch`, then `ready` for every parameter and `end_batch`, or else
  /// `contribute_zeros`. `last`: of the update. Gradients of those before are kept, and become ready with the last batch's.
  virtual void begin_batch(bool last) = 0;
  /// Instead of a batch without samples: all gradients of this rank are zero.
  virtual void contribute_zeros() = 0;
  /// All gradients of the batch are ready.
  virtual void end_batch() = 0;

  /// Are parameters fetched when a node is about to read them? Then every rank must run the same steps, with no samples if need
  /// be, and `follow_reads` and `before_read` are called, in evaluation as well.
  [[nodiscard]] virtual bool reads_on_demand() const noexcept { return false; }
  /// A run of the replica begins, which reads parameters in this order, the same one on all ranks. The order outlives the run.
  virtual void follow_reads(std::span<const std::size_t> /*order*/) {}
  /// A node is about to read these parameters. Returns when they are there.
  virtual void before_read(std::span<const std::size_t> /*parameters*/) {}
};

}  // namespace cohort
