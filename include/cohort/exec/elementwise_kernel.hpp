#pragma once

#include <cstdint>
#include <type_traits>

#include "cohort/exec/kernel.hpp"
#include "cohort/tensor/elementwise.hpp"

namespace cohort {

/// The kernel of a formula `float F::operator()(float x...) const` of one to three inputs of the output's shape. It
/// registers itself for the device that its file is compiled for. Inputs and output are float32, plain and dense.
template <class F>
class ElementwiseKernel {
 public:
  explicit ElementwiseKernel(std::string_view op, std::source_location where = std::source_location::current())
      : registered_{op, kKernelFamily, stateless(&run), where} {}

 private:
  static constexpr std::int64_t kGrain = 16384;   // elements per thread below which waking a thread costs more

  static void run(KernelContext& c) {
    float* y = c.out().data<float>();
    if constexpr (std::is_invocable_v<F, float>) {
      over(c, [](const float& a, float& r) { r = F{}(a); }, c.in(0).data<float>(), y);
    } else if constexpr (std::is_invocable_v<F, float, float>) {
      over(c, [](const float& a, const float& b, float& r) { r = F{}(a, b); }, c.in(0).data<float>(), c.in(1).data<float>(), y);
    } else {
      over(c, [](const float& a, const float& b, const float& d, float& r) { r = F{}(a, b, d); }, c.in(0).data<float>(),
           c.in(1).data<float>(), c.in(2).data<float>(), y);
    }
  }

  template <class G, class... T>
  static void over(KernelContext& c, G g, T*... p) {
    c.pool().parallel_for(c.out().elements(), kGrain, [&](std::int64_t begin, std::int64_t end) {
      apply(c.stream(), g, end - begin, (p + begin)...);
    });
  }

  RegisteredKernel registered_;
};

}  // namespace cohort
