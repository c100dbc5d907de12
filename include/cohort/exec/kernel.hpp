#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cohort/base/thread_pool.hpp"
#include "cohort/graph/graph.hpp"
#include "cohort/tensor/tensor.hpp"

namespace cohort {

/// What differs from run to run of one prepared step, beside the feeds. Random kernels draw from (seed, the node's stream,
/// step, global row), so that a mask depends neither on threads nor on how the batch is spread over ranks.
struct RunOptions {
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  std::int64_t row_offset = 0;         ///< global row of local row i of the batch = row_offset + i · row_stride
  std::int64_t row_stride = 1;
};

/// A node as the maker of its kernel sees it: all shapes are known.
struct NodeInfo {
  std::string name;
  const Attrs& attrs;
  std::span<const Signature> in, out;
  Device& device;
  ThreadPool& pool;
};

/// Floats of a kernel's own, zero at first, for as long as it lives. They count as memory of the device; where the host
/// cannot see that, they are the host's.
class ScratchFloats {
 public:
  ScratchFloats(const NodeInfo& info, std::int64_t n) : ScratchFloats(info.device, n) {}
  ScratchFloats(Device& device, std::int64_t n);
  [[nodiscard]] float* data() const noexcept { return static_cast<float*>(memory_.memory.get()); }   ///< at a cache line
  [[nodiscard]] float* begin() const noexcept { return data(); }
  [[nodiscard]] float* end() const noexcept { return data() + n_; }

 private:
  Buffer memory_;
  std::int64_t n_;
};

/// What a kernel gets at every run. The pointers are set once when the step is prepared; only feeds change their memory.
class KernelContext {
 public:
  [[nodiscard]] const Tensor& in(std::size_t i) const { return *in_[i]; }
  [[nodiscard]] std::size_t inputs() const noexcept { return in_.size(); }
  [[nodiscard]] const Tensor& out(std::size_t i = 0) const { return *out_[i]; }
  [[nodiscard]] std::size_t outputs() const noexcept { return out_.size(); }
  [[nodiscard]] ThreadPool& pool() const noexcept { return *pool_; }
  [[nodiscard]] Stream& stream() const noexcept { return *stream_; }   ///< of the device that the kernel is written for
  [[nodiscard]] const RunOptions& options() const noexcept { return *options_; }
  /// values := their sum over all replicas of the graph, which must all come here with as many; of one replica, themselves.
  void sum_over_replicas(std::span<float> values) const {
    if (*sum_over_replicas_) (*sum_over_replicas_)(values);
  }
  void done() const { done_(); }       ///< only for kernels that finish later: exactly once, from any thread

 private:
  friend class Executor;
  std::vector<const Tensor*> in_, out_;
  ThreadPool* pool_ = nullptr;
  Stream* stream_ = nullptr;
  const RunOptions* options_ = nullptr;
  const std::function<void(std::span<float>)>* sum_over_replicas_ = nullptr;
  std::function<void()> done_;
};

/// One node's computation, built once for known shapes: all choices, primitives and scratch memory belong in the
/// constructor.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run(KernelContext& context) = 0;
  /// True: `run` only starts the work, and `context.done()` follows. Its memory is kept until then.
  [[nodiscard]] virtual bool finishes_later() const noexcept { return false; }
  /// True: reads and writes any leading dimension. Others get dense tensors.
  [[nodiscard]] virtual bool any_ld() const noexcept { return false; }
};

/// Makes a kernel of one op for one kernel family ("CPU", "GPU").
struct KernelFactory {
  std::function<std::unique_ptr<Kernel>(const NodeInfo&)> make;
};
template <>
inline constexpr std::string_view kKindOf<KernelFactory> = "kernel";

/// Enters a kernel: `const RegisteredKernel k{"MatMul", "CPU", make_kernel<MatMulKernel>};`
struct RegisteredKernel {
  RegisteredKernel(std::string_view op, std::string_view family, std::function<std::unique_ptr<Kernel>(const NodeInfo&)> make,
                   std::source_location where = std::source_location::current()) {
    Registry<KernelFactory>::instance().add(std::string(op) + "@" + std::string(family), {std::move(make)}, where);
  }
};

template <class K>
std::unique_ptr<Kernel> make_kernel(const NodeInfo& info) {
  return std::make_unique<K>(info);
}

/// A kernel without state as a plain function.
[[nodiscard]] std::function<std::unique_ptr<Kernel>(const NodeInfo&)> stateless(void (*run)(KernelContext&));

}  // namespace cohort
