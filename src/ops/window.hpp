#pragma once

#include <cstdint>

#include "cohort/graph/op.hpp"

namespace cohort {

/// One spatial dimension of a convolution or pooling. "valid" takes only whole windows; "same" gives ⌈in / stride⌉ results
/// and puts the odd element of padding at the end, as TensorFlow does (tf.nn, "Notes on padding").
struct Window {
  std::int64_t in = 0, size = 1, stride = 1, dilation = 1;
  std::int64_t out = 0, before = 0, after = 0;
};

[[nodiscard]] inline Window window_of(std::int64_t in, std::int64_t size, std::int64_t stride, std::int64_t dilation,
                                      bool same) {
  Window w{.in = in, .size = size, .stride = stride, .dilation = dilation};
  const std::int64_t extent = (size - 1) * dilation + 1;
  if (!same) {
    w.out = in < extent ? 0 : (in - extent) / stride + 1;
    return w;
  }
  w.out = (in + stride - 1) / stride;
  const std::int64_t padding = (w.out - 1) * stride + extent - in;
  w.before = padding > 0 ? padding / 2 : 0;
  w.after = padding > 0 ? padding - w.before : 0;
  return w;
}

[[nodiscard]] inline bool is_same_padding(const Attrs& attrs) { return attrs.get<std::string>("padding") == "same"; }

/// The attribute as a whole number of at least 1.
[[nodiscard]] inline std::int64_t positive_attr(const Inference& c, std::string_view name, std::int64_t otherwise) {
  const std::int64_t value = c.attrs.get<std::int64_t>(name, otherwise);
  if (value < 1) c.refuse(std::string(name) + " is " + std::to_string(value) + ", it must be at least 1");
  return value;
}

/// The output size of one dimension, unknown if the input's is; refuses windows that do not fit.
[[nodiscard]] inline std::int64_t infer_window(const Inference& c, std::int64_t in, std::int64_t size) {
  const auto& padding = c.attrs.get<std::string>("padding");
  if (padding != "same" && padding != "valid") c.refuse("padding is \"" + padding + "\", it must be \"same\" or \"valid\"");
  const std::int64_t stride = positive_attr(c, "stride", 1), dilation = positive_attr(c, "dilation", 1);
  if (in == Shape::kUnknown || size == Shape::kUnknown) return Shape::kUnknown;
  if (size < 1) c.refuse("the window is empty");
  const Window w = window_of(in, size, stride, dilation, padding == "same");
  if (w.out < 1) {
    c.refuse("a window of " + std::to_string((size - 1) * dilation + 1) + " elements does not fit into a dimension of " +
             std::to_string(in) + (padding == "same" ? "" : "; padding \"same\" would extend it"));
  }
  return w.out;
}

}  // namespace cohort
