#pragma once

#include <cstdint>

#include "cohort/base/portable.hpp"
#include "cohort/tensor/device.hpp"

namespace cohort {

#ifdef __CUDACC__
template <class F, class... T>
__global__ void apply_kernel(F f, std::int64_t n, T*... p) {
  for (std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x; i < n; i += std::int64_t{gridDim.x} * blockDim.x) f(p[i]...);
}
#endif

/// f(p[i]...) for every i < n, in order on `stream`: one formula for every device. `f` takes references and writes its
/// results through them; it is copied to the device, so it captures by value.
template <class F, class... T>
void apply(Stream& stream, F f, std::int64_t n, T*... p) {
#ifdef __CUDACC__
  if (n > 0) apply_kernel<<<static_cast<unsigned>((n + 255) / 256 < 4096 ? (n + 255) / 256 : 4096), 256, 0, static_cast<cudaStream_t>(stream.native())>>>(f, n, p...);
#else
  const auto loop = [=] {
    for (std::int64_t i = 0; i < n; ++i) f(p[i]...);
  };
  if (stream.immediate()) loop();
  else stream.launch(loop);
#endif
}

}  // namespace cohort
