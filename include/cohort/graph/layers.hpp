#pragma once

#include <cstdint>
#include <string_view>

#include "cohort/graph/functions.hpp"

/// Layers with parameters. `name` is the prefix of their variables: "hidden" gives "hidden/weight", "hidden/bias". Called
/// twice with one name they share the parameters.
namespace cohort::nn {

enum class Activation { none, relu, tanh, sigmoid, gelu };

struct DenseOptions {
  Activation activation = Activation::none;
  bool bias = true;        ///< without one there can be no activation
  double gain = 1;         ///< of the weight's initial values
};
/// x·weight + bias, then the activation: one fused op. x [n, …, in]; weight [in, units]; result [n, …, units].
Value dense(Value x, std::int64_t units, std::string_view name, const DenseOptions& options);
Value dense(Value x, std::int64_t units, std::string_view name, Activation activation = Activation::none);

/// Rows of a table of `count` vectors of `width`, by their numbers: int32 [...] to float32 [..., width]. The table begins with
/// normal numbers of that deviation.
Value embedding(Value indices, std::int64_t count, std::int64_t width, std::string_view name, double deviation = 0.1);

/// Normalises over the last axis (Ba et al. 2016), then scales and shifts each column.
Value layer_norm(Value x, std::string_view name, float epsilon = 1e-5f);
struct ResidualNorm {
  Value sum, normal;       ///< residual + branch, and that normalised
};
/// What stands between two blocks of a pre-norm transformer, in one pass.
ResidualNorm residual_layer_norm(Value residual, Value branch, std::string_view name, float epsilon = 1e-5f);

struct AttentionOptions {
  bool causal = true;
  double output_gain = 1;  ///< of the output weight's initial values
};
/// Multi-head self-attention with its two dense layers, "qkv" and "output". x [n, t, d]; `heads` must divide d.
Value attention(Value x, std::int64_t heads, std::string_view name, const AttentionOptions& options = {});

/// A layer of long short-term memory over whole sequences from a state of zeros: x [n, t, in] to [n, t, units]. The weights
/// "input" [in, 4 units], "recurrent" [units, 4 units] and the bias hold the gates in PyTorch's order: input, forget, cell, output.
Value lstm(Value x, std::int64_t units, std::string_view name);

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

/// Group normalisation of the channels of each sample (Wu & He 2018): the same in training and evaluation.
Value group_norm(Value x, std::int64_t groups, std::string_view name, float epsilon = 1e-5f);

/// In evaluation the input itself.
Value dropout(Value x, float rate, bool training);

}  // namespace cohort::nn
