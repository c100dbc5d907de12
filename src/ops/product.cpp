#include "product.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "cohort/tensor/dtype.hpp"

namespace cohort::onednn {
namespace {

/// A matrix as bfloat16, as it lies but without padding.
void round(ThreadPool& pool, const Matrix& from, std::int64_t rows, std::int64_t columns, bfloat16* to) {
  if (from.transposed) std::swap(rows, columns);
  pool.parallel_for(rows, 16384 / std::max<std::int64_t>(columns, 1) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float* row = from.data + i * from.ld;
      bfloat16* rounded = to + i * columns;
      for (std::int64_t j = 0; j < columns; ++j) rounded[j] = bfloat16(row[j]);
    }
  });
}

}  // namespace

/// A oneDNN primitive for the rows of each thread. The leading dimension of the result is known when the product runs for the first time.
class Product::Native {
 public:
  Native(const NodeInfo& info, const ProductSize& size, bool transpose_a, bool transpose_b)
      : size_(size), transpose_a_(transpose_a), transpose_b_(transpose_b),
        factors_(info, (size.m * size.k + size.k * size.n + 1) / 2 + 32) {
    if (empty()) return;
    const std::int64_t parts = std::clamp<std::int64_t>(info.pool.threads(), 1, (size.m + kRows - 1) / kRows);
    for (std::int64_t i = 0; i < parts; ++i) {
      const std::int64_t begin = size.m * i / parts;
      parts_.emplace_back(begin, size.m * (i + 1) / parts - begin, info.device);
    }
    require_instructions();
  }

  void run(ThreadPool& pool, const Matrix& a, const Matrix& b, float* c, std::int64_t ld) {
    if (empty()) return multiply(a, b, c, ld, size_);             // zeros, or nothing
    auto* first = reinterpret_cast<bfloat16*>(factors_.data());
    auto* second = first + (size_.m * size_.k + 31) / 32 * 32;
    round(pool, a, size_.m, size_.k, first);
    round(pool, b, size_.k, size_.n, second);
    for (Part& part : parts_) {
      if (ld != ld_) build(part, ld);
      part.memory[0].set_data_handle(first + part.begin * (transpose_a_ ? 1 : size_.k));
      part.memory[1].set_data_handle(second);
      part.memory[2].set_data_handle(c + part.begin * ld);
    }
    ld_ = ld;
    pool.parallel_for(std::ssize(parts_), 1, [&](std::int64_t begin, std::int64_t end) {
      use_threads(1);
      for (std::int64_t i = begin; i < end; ++i) parts_[static_cast<std::size_t>(i)].call.run();
    });
  }

 private:
  static constexpr std::int64_t kRows = 16;       // a thread's least
  struct Part {
    Part(std::int64_t first, std::int64_t n, Device& device) : begin(first), rows(n), cpu(dnnl::engine(dnnl::engine::kind::cpu, 0), device) {}
    std::int64_t begin, rows;
    Cpu cpu;
    std::array<dnnl::memory, 3> memory{};
    Call call{};
  };

  [[nodiscard]] bool empty() const noexcept { return size_.m == 0 || size_.n == 0 || size_.k == 0; }

  [[nodiscard]] dnnl::matmul::primitive_desc describe(const Part& part, std::int64_t rows, std::int64_t ld) const {
    using dnnl::memory;
    const auto bf16 = memory::data_type::bf16;
    const memory::desc a({rows, size_.k}, bf16, transpose_a_ ? memory::dims{1, size_.m} : memory::dims{size_.k, 1});
    const memory::desc b({size_.k, size_.n}, bf16, transpose_b_ ? memory::dims{1, size_.k} : memory::dims{size_.n, 1});
    const memory::desc c({rows, size_.n}, memory::data_type::f32, memory::dims{ld, 1});
    use_threads(1);
    return {dnnl::matmul::desc(a, b, c), user_scratchpad(), part.cpu.engine};
  }

  void build(Part& part, std::int64_t ld) {
    const dnnl::matmul::primitive_desc primitive = describe(part, part.rows, ld);
    refuse_reference("a product of bfloat16", primitive.impl_info_str());
    part.memory = {part.cpu.wrap(primitive.src_desc()), part.cpu.wrap(primitive.weights_desc()), part.cpu.wrap(primitive.dst_desc())};
    const dnnl::memory scratch = part.cpu.scratch(primitive.scratchpad_desc());
    part.call = Call(part.cpu, dnnl::matmul(primitive), {{DNNL_ARG_SRC, part.memory[0]}, {DNNL_ARG_WEIGHTS, part.memory[1]},
                                                         {DNNL_ARG_DST, part.memory[2]}, {DNNL_ARG_SCRATCHPAD, scratch}});
  }

  /// oneDNN multiplies bfloat16 on any processor with AVX-512; the name of what it does for dense matrices tells how.
  void require_instructions() const {
    constexpr const char* kNeeds = "train.precision = \"bf16_native\" needs a processor that multiplies bfloat16 (AVX-512 BF16); this one does not, "
                                   "\"bf16\" gives the same roundings in float32";
    std::string name;
    try {
      name = describe(parts_.front(), size_.m, size_.n).impl_info_str();
    } catch (const dnnl::error&) {
      fail(Code::failed_precondition, kNeeds);
    }
    cohort::check(name.find("bf16") != std::string::npos, Code::failed_precondition, kNeeds);
  }

  ProductSize size_;
  bool transpose_a_, transpose_b_;
  ScratchFloats factors_;
  std::vector<Part> parts_;
  std::int64_t ld_ = 0;
};

Product::Product(const NodeInfo& info, const ProductSize& size, bool transpose_a, bool transpose_b)
    : size_(size), native_(info.attrs.get("native_bf16", false) ? std::make_unique<Native>(info, size, transpose_a, transpose_b) : nullptr) {}
Product::~Product() = default;
Product::Product(Product&&) noexcept = default;

void Product::run(ThreadPool& pool, const Matrix& a, const Matrix& b, float* c, std::int64_t ld) {
  if (native_) native_->run(pool, a, b, c, ld);
  else multiply(pool, a, b, c, ld, size_);
}

}  // namespace cohort::onednn
