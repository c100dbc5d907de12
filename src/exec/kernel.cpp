#include "cohort/exec/kernel.hpp"

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

std::function<std::unique_ptr<Kernel>(const NodeInfo&)> stateless(void (*run)(KernelContext&)) {
  return [run](const NodeInfo&) { return std::make_unique<StatelessKernel>(run); };
}

}  // namespace cohort
