#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "cohort/graph/graph.hpp"

/// One short function per op, so that models read like formulas. Shapes and errors are those of the ops in src/ops/.
namespace cohort {

// Arithmetic with NumPy's broadcasting; a float becomes a constant.
Value operator+(Value a, Value b);
Value operator-(Value a, Value b);
Value operator*(Value a, Value b);
Value operator/(Value a, Value b);
Value operator+(Value a, float b);
Value operator-(Value a, float b);
Value operator*(Value a, float b);
Value operator*(float a, Value b);
Value operator/(Value a, float b);
Value operator-(Value a);
Value maximum(Value a, Value b);
Value minimum(Value a, Value b);

// Elementwise.
Value exp(Value x);
Value log(Value x);
Value sqrt(Value x);
Value square(Value x);
Value abs(Value x);
Value tanh(Value x);
Value sigmoid(Value x);
Value relu(Value x);
Value gelu(Value x);        ///< exact, with the error function
Value softplus(Value x);

// Compare (bool results) and select.
Value equal(Value a, Value b);
Value not_equal(Value a, Value b);
Value less(Value a, Value b);
Value less_equal(Value a, Value b);
Value greater(Value a, Value b);
Value greater_equal(Value a, Value b);
Value select(Value condition, Value a, Value b);
Value cast(Value x, DType to);

// Reductions; no axes: over all.
Value sum(Value x, std::vector<std::int64_t> axes = {}, bool keep_dims = false);
Value mean(Value x, std::vector<std::int64_t> axes = {}, bool keep_dims = false);
Value max(Value x, std::vector<std::int64_t> axes = {}, bool keep_dims = false);
Value argmax(Value x, std::int64_t axis = -1);                       ///< int32

// Products. Batched over leading dimensions, which broadcast.
Value matmul(Value a, Value b, bool transpose_a = false, bool transpose_b = false);

/// Scaled dot-product self-attention of `heads` heads: [n, t, 3 d] (queries, keys, values) to [n, t, d].
Value attention(Value qkv, std::int64_t heads, bool causal = true);

// Losses and distributions over the last axis.
Value softmax(Value x);
Value log_softmax(Value x);
/// Per row: −Σ q log softmax(logits), q = (1 − s)·onehot(label) + s / classes. labels int32 [...]; result float32 [...].
Value softmax_cross_entropy(Value logits, Value labels, float label_smoothing = 0);
Value mean_squared_error(Value prediction, Value target);            ///< scalar
/// The share of rows whose argmax is the label. A row with NaN is none of them.
Value accuracy(Value logits, Value labels);

// Shapes. One dimension of `reshape` may be -1.
Value reshape(Value x, std::vector<std::int64_t> shape);
Value flatten(Value x);                                               ///< [n, …] to [n, product of the rest]
Value transpose(Value x, std::vector<std::int64_t> permutation);
Value slice(Value x, std::vector<std::int64_t> begin, std::vector<std::int64_t> size);   ///< size -1: to the end
Value concat(std::vector<Value> parts, std::int64_t axis);
std::vector<Value> split(Value x, std::int64_t parts, std::int64_t axis);
Value pad(Value x, std::vector<std::int64_t> before, std::vector<std::int64_t> after, float value = 0);
Value gather(Value x, Value indices);                                 ///< rows of x; indices int32 of any shape
Value one_hot(Value indices, std::int64_t depth);

// Images, [n, height, width, channels]. padding: "same" (⌈size / stride⌉) or "valid".
Value conv2d(Value x, Value filter, std::int64_t stride = 1, std::string_view padding = "same", std::int64_t dilation = 1,
             std::int64_t groups = 1);
Value max_pool(Value x, std::int64_t size, std::int64_t stride, std::string_view padding = "valid");
Value average_pool(Value x, std::int64_t size, std::int64_t stride, std::string_view padding = "valid");
Value global_average_pool(Value x);                                   ///< [n, channels]
/// To height × width pixels. "nearest": pixel i of an axis is ⌊i · in / out⌋ of the image, as PyTorch's; "bilinear": the weighted
/// mean of the two next to it in each direction, pixel centres at the same relative places (align_corners = False).
Value resize(Value x, std::int64_t height, std::int64_t width, std::string_view method = "bilinear");

/// Keeps each element with probability 1 − rate and divides by it; the mask is f(seed, node, step, global row).
Value dropout(Value x, float rate);

}  // namespace cohort
