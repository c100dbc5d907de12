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

void multiply(const Matrix& a, const Matrix& b, float* c, std::int64_t ld, std::int64_t m, std::int64_t n, std::int64_t k) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    for (std::int64_t i = 0; i < m; ++i) std::fill_n(c + i * ld, n, 0.f);
    return;
  }
  const char ta = a.transposed ? 'T' : 'N', tb = b.transposed ? 'T' : 'N';
  check(dnnl_sgemm(ta, tb, m, n, k, 1.f, a.data, a.ld, b.data, b.ld, 0.f, c, ld));
}

}  // namespace cohort::onednn
