#include "onednn.hpp"

#include <fmt/core.h>
#include <omp.h>
#include <oneapi/dnnl/dnnl_debug.h>

#include <algorithm>

namespace cohort::onednn {

void check(dnnl_status_t status, std::source_location where) {
  if (status != dnnl_success) fail(Code::internal, fmt::format("oneDNN: {}", dnnl_status2str(status)), where);
}

void use_threads(int threads) {
  if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
}

void refuse_reference(std::string_view node, std::string_view implementation) {
  if (implementation.starts_with("ref")) {
    fail(Code::internal,
         fmt::format("'{}': oneDNN has only its reference implementation ({}) for these shapes", node, implementation));
  }
}

dnnl::primitive_attr user_scratchpad() {
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

dnnl::memory Cpu::scratch(const dnnl::memory::desc& desc) {
  const std::size_t bytes = desc.get_size();
  if (bytes == 0) return wrap(desc);
  return {desc, engine, memory.emplace_back(*device, static_cast<std::int64_t>((bytes + 3) / 4)).data()};
}

Call::Call(const Cpu& cpu, dnnl::primitive primitive, const std::vector<std::pair<int, dnnl::memory>>& arguments)
    : stream_(cpu.stream), primitive_(std::move(primitive)) {
  for (const auto& [id, memory] : arguments) {
    memory_.push_back(memory);
    arguments_.push_back({id, memory.get()});
  }
}

void Call::run() {
  check(dnnl_primitive_execute(primitive_.get(), stream_.get(), static_cast<int>(arguments_.size()), arguments_.data()));
}

void multiply(const Matrix& a, const Matrix& b, float* c, std::int64_t ld, const ProductSize& size, bool add) {
  const auto [m, n, k] = size;
  if (m == 0 || n == 0) return;
  if (k == 0) {
    for (std::int64_t i = 0; i < m && !add; ++i) std::fill_n(c + i * ld, n, 0.f);
    return;
  }
  use_threads(1);
  const char ta = a.transposed ? 'T' : 'N', tb = b.transposed ? 'T' : 'N';
  check(dnnl_sgemm(ta, tb, m, n, k, 1.f, a.data, a.ld, b.data, b.ld, add ? 1.f : 0.f, c, ld));
}

void multiply(ThreadPool& pool, const Matrix& a, const Matrix& b, float* c, std::int64_t ld, const ProductSize& size) {
  constexpr std::int64_t kBlock = 16;              // rows or columns that stay together, a multiple of a vector
  constexpr std::int64_t kLeast = 1 << 20;         // multiplications per thread below which waking it costs more
  const auto [m, n, k] = size;
  const bool rows = m >= n;
  const std::int64_t count = rows ? m : n, blocks = (count + kBlock - 1) / kBlock;
  const std::int64_t per_block = std::max<std::int64_t>(kBlock * (rows ? n : m) * k, 1);
  pool.parallel_for(blocks, (kLeast + per_block - 1) / per_block, [&](std::int64_t first, std::int64_t last) {
    const std::int64_t begin = first * kBlock, part = std::min(count, last * kBlock) - begin;
    if (rows) {
      const Matrix some{a.data + begin * (a.transposed ? 1 : a.ld), a.ld, a.transposed};
      multiply(some, b, c + begin * ld, ld, {part, n, k});
    } else {
      const Matrix some{b.data + begin * (b.transposed ? b.ld : 1), b.ld, b.transposed};
      multiply(a, some, c + begin, ld, {m, part, k});
    }
  });
}

}  // namespace cohort::onednn
