#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cohort/exec/kernel.hpp"
#include "cohort/tensor/elementwise.hpp"

namespace cohort {

/// The kernel of a formula `float F::operator()(float x...) const` of one to three inputs of the output's shape. It
/// registers itself for the device that its file is compiled for. Inputs and output are float32 and plain, with any leading
/// dimension.
template <class F>
class ElementwiseKernel {
 public:
  explicit ElementwiseKernel(std::string_view op, std::source_location where = std::source_location::current())
      : registered_{op, kKernelFamily, make_kernel<Runner>, where} {}

 private:
  class Runner final : public Kernel {
   public:
    explicit Runner(const NodeInfo&) {}
    [[nodiscard]] bool any_ld() const noexcept override { return true; }

    void run(KernelContext& c) override {
      if constexpr (std::is_invocable_v<F, float>) {
        over(c, [](const float& a, float& r) { r = F{}(a); }, c.in(0), c.out());
      } else if constexpr (std::is_invocable_v<F, float, float>) {
        over(c, [](const float& a, const float& b, float& r) { r = F{}(a, b); }, c.in(0), c.in(1), c.out());
      } else {
        over(c, [](const float& a, const float& b, const float& d, float& r) { r = F{}(a, b, d); }, c.in(0), c.in(1), c.in(2), c.out());
      }
    }

   private:
    static constexpr std::int64_t kGrain = 16384;   // elements per thread below which waking a thread costs more

    template <class G, class... T>
    static void over(KernelContext& c, G g, const T&... x) {
      if ((x.dense() && ...)) {
        c.pool().parallel_for(c.out().elements(), kGrain, [&](std::int64_t begin, std::int64_t end) {
          apply(c.stream(), g, end - begin, (x.template data<float>() + begin)...);
        });
        return;
      }
      const std::int64_t columns = c.out().columns();
      const std::int64_t grain = kGrain / std::max<std::int64_t>(columns, 1) + 1;
      c.pool().parallel_for(c.out().rows(), grain, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) apply(c.stream(), g, columns, (x.template data<float>() + row * x.ld())...);
      });
    }
  };

  RegisteredKernel registered_;
};

}  // namespace cohort
