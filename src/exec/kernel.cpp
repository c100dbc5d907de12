#include "cohort/exec/kernel.hpp"

#include <algorithm>

namespace cohort {
namespace {

class StatelessKernel final : public Kernel {
 public:
  explicit StatelessKernel(void (*function)(KernelContext&)) : run_(function) {}
  void run(KernelContext& context) override { run_(context); }

 private:
  void (*run_)(KernelContext&);
};

}  // namespace

ScratchFloats::ScratchFloats(Device& device, std::int64_t n) : n_(n) {
  Device& where = device.info().host_accessible ? device : host();
  memory_ = where.allocate(static_cast<std::size_t>(n) * sizeof(float));
  std::fill(begin(), end(), 0.f);
}

std::function<std::unique_ptr<Kernel>(const NodeInfo&)> stateless(void (*run)(KernelContext&)) {
  return [run](const NodeInfo&) { return std::make_unique<StatelessKernel>(run); };
}

}  // namespace cohort
