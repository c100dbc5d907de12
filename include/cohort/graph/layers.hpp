#pragma once

#include <cstdint>
#include <string_view>

#include "cohort/graph/functions.hpp"

/// Layers with parameters. `name` is the prefix of their variables: "hidden" gives "hidden/weight", "hidden/bias". Called
/// twice with one name they share the parameters.
namespace cohort::nn {

enum class Activation { none, relu, tanh, sigmoid };

/// x·weight + bias, then the activation: one fused op. x [n, in]; weight [in, units]; result [n, units].
Value dense(Value x, std::int64_t units, std::string_view name, Activation activation = Activation::none);

struct ConvOptions {
  std::int64_t stride = 1;
  std::string_view padding = "same";
  std::int64_t dilation = 1;
  std::int64_t groups = 1;
  bool bias = true;
};
/// x [n, h, w, in]; weight [size, size, in / groups, filters].
Value conv2d(Value x, std::int64_t filters, std::int64_t size, std::string_view name, const ConvOptions& options = {});

struct BatchNormOptions {
  bool relu = false;              ///< afterwards, in the same pass
  Value add{};                    ///< of x's shape, added before the relu: the shortcut of a residual block
  bool over_replicas = false;     ///< statistics of the batches of all replicas together
  float decay = 0.9f;
  float epsilon = 1e-5f;
};
/// Batch normalisation over all axes but the last (Ioffe & Szegedy 2015, algorithms 1 and 2). In training the batch's
/// statistics are used and the running ones move by 1 − decay of the way towards them; they are variables that are not trained.
Value batch_norm(Value x, bool training, std::string_view name, const BatchNormOptions& options = {});

/// In evaluation the input itself.
Value dropout(Value x, float rate, bool training);

}  // namespace cohort::nn
