#pragma once

#include <cstdint>

/// The only place that asks which compiler is at work: what the CPU's and the GPU's both translate is marked COHORT_HD (the
/// only macro), and a loop over elements becomes a kernel launch.
#ifdef __CUDACC__
#define COHORT_HD __host__ __device__
namespace cohort {
inline constexpr const char* kKernelFamily = "GPU";   ///< the kernel family that this file is compiled for

template <class F, class... T>
__global__ void elementwise_kernel(F f, std::int64_t n, T*... p) {
  for (std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x; i < n; i += std::int64_t{gridDim.x} * blockDim.x) f(p[i]...);
}
template <class F, class... T>
void run_elementwise(void* stream, F f, std::int64_t n, T*... p) {
  const std::int64_t blocks = (n + 255) / 256 < 4096 ? (n + 255) / 256 : 4096;
  if (n > 0) elementwise_kernel<<<static_cast<unsigned>(blocks), 256, 0, static_cast<cudaStream_t>(stream)>>>(f, n, p...);
}
}  // namespace cohort
#else
#define COHORT_HD
namespace cohort {
inline constexpr const char* kKernelFamily = "CPU";

template <class F, class... T>
void run_elementwise(void*, F f, std::int64_t n, T*... p) {
#pragma GCC ivdep   // an output may be the memory of an input: element i of all belongs together
  for (std::int64_t i = 0; i < n; ++i) f(p[i]...);
}

template <class F, class... T>
double run_sum(void*, F f, std::int64_t n, T*... p) {
  constexpr std::int64_t kLanes = 8;   // independent additions: one alone would wait four cycles for the last
  double lane[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::int64_t k = 0; k < kLanes; ++k) lane[k] += static_cast<double>(f(p[i + k]...));
  }
  for (; i < n; ++i) lane[0] += static_cast<double>(f(p[i]...));
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}
}  // namespace cohort
#endif
