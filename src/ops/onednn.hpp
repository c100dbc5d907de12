#pragma once

#include <oneapi/dnnl/dnnl.hpp>

#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cohort/exec/kernel.hpp"

/// What the op files share of oneDNN. A primitive, its memory objects and its scratch memory are built in a kernel's
/// constructor; a run only points the memory objects at the tensors.
namespace cohort::onednn {

/// Error internal, naming the status, unless `status` is success.
void check(dnnl_status_t status, std::source_location where = std::source_location::current());

/// oneDNN's OpenMP threads of the calling thread from now on, when primitives are built (their blocking depends on it) and
/// when they run. It is 1 everywhere: work is spread over the threads of the session's pool instead, since OpenMP's own
/// spin where they wait.
void use_threads(int threads);

/// Error internal for oneDNN's plain loops ("ref:any"), which are hundreds of times slower than its real implementations.
void refuse_reference(std::string_view node, std::string_view implementation);

/// An engine and a stream of one kernel, and the scratch memory that it has made.
struct Cpu {
  Cpu(const dnnl::engine& of, Device& counted_by) : engine(of), stream(of), device(&counted_by) {}

  dnnl::engine engine;
  dnnl::stream stream;
  Device* device;
  std::vector<ScratchFloats> memory{};
  [[nodiscard]] dnnl::memory wrap(const dnnl::memory::desc& desc) const { return {desc, engine, DNNL_MEMORY_NONE}; }
  [[nodiscard]] dnnl::memory scratch(const dnnl::memory::desc& desc);   ///< lives as long as this
};

/// Attributes that make the caller own the scratch memory.
[[nodiscard]] dnnl::primitive_attr user_scratchpad();

/// A primitive with its arguments, ready to run any number of times.
class Call {
 public:
  Call() = default;
  Call(const Cpu& cpu, dnnl::primitive primitive, const std::vector<std::pair<int, dnnl::memory>>& arguments);
  [[nodiscard]] explicit operator bool() const noexcept { return bool(primitive_); }
  void run();

 private:
  dnnl::stream stream_;
  dnnl::primitive primitive_;
  std::vector<dnnl::memory> memory_;          // keeps alive what arguments_ points to
  std::vector<dnnl_exec_arg_t> arguments_;
};

/// make_kernel for kernels that build primitives: an error of oneDNN names the node.
template <class K>
std::unique_ptr<Kernel> make_kernel(const NodeInfo& info) {
  try {
    return std::make_unique<K>(info);
  } catch (const dnnl::error& error) {
    fail(Code::internal, "'" + info.name + "': oneDNN: " + error.what());
  }
}

/// A row-major matrix in memory.
struct Matrix {
  const float* data;
  std::int64_t ld;
  bool transposed;
};
struct ProductSize {
  std::int64_t m, n, k;
};
/// c [m, n] := a [m, k] · b [k, n] (the shapes after transposition) on the calling thread; zeros if k = 0. add: c + a · b.
void multiply(const Matrix& a, const Matrix& b, float* c, std::int64_t ld, const ProductSize& size, bool add = false);
/// The same with rows or columns of c spread over the threads of `pool`.
void multiply(ThreadPool& pool, const Matrix& a, const Matrix& b, float* c, std::int64_t ld, const ProductSize& size);

}  // namespace cohort::onednn
