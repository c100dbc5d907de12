#pragma once

#include <cstdint>

#include "cohort/base/portable.hpp"
#include "cohort/tensor/device.hpp"

namespace cohort {

/// f(p[i]...) for every i < n, in order on `stream`: one formula for every device. `f` takes references and writes its
/// results through them; it is copied to the device, so it captures by value.
template <class F, class... T>
void apply(Stream& stream, F f, std::int64_t n, T*... p) {
  // A stream that is neither immediate nor a GPU's (the DEBUG device) runs host code later, in order.
  if (stream.immediate() || stream.native() != nullptr) run_elementwise(stream.native(), f, n, p...);
  else stream.launch([=] { run_elementwise(nullptr, f, n, p...); });
}

/// The sum of f(p[i]...) over i < n, in double and in an order that depends on n alone. Waits for `stream`.
template <class F, class... T>
[[nodiscard]] double sum(Stream& stream, F f, std::int64_t n, T*... p) {
  if (stream.immediate() || stream.native() != nullptr) return run_sum(stream.native(), f, n, p...);
  double result = 0;
  stream.launch([=, &result] { result = run_sum(nullptr, f, n, p...); });
  stream.synchronize();
  return result;
}

}  // namespace cohort
