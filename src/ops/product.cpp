#include "product.hpp"

#include <array>
#include <bit>

namespace cohort::onednn {
namespace {

/// A matrix as bfloat16, as it lies but without padding; rounded to nearest even, NaN stays NaN. No branches, so that it vectorises.
void round(ThreadPool& pool, const Matrix& from, std::int64_t rows, std::int64_t columns, std::uint16_t* to) {
  if (from.transposed) std::swap(rows, columns);
  pool.parallel_for(rows, 16384 / std::max<std::int64_t>(columns, 1) + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const float* row = from.data + i * from.ld;
      std::uint16_t* rounded = to + i * columns;
      for (std::int64_t j = 0; j < columns; ++j) {
        const auto u = std::bit_cast<std::uint32_t>(row[j]);
        const std::uint32_t nan = row[j] != row[j] ? 0xffffffffu : 0u;
        rounded[j] = static_cast<std::uint16_t>(((u + 0x7fffu + ((u >> 16) & 1u)) | nan) >> 16);
      }
    }
  });
}

}  // namespace

/// One oneDNN primitive. The leading dimension of the result is known when the product runs for the first time.
class Product::Native {
 public:
  Native(const NodeInfo& info, const ProductSize& size, bool transpose_a, bool transpose_b)
      : size_(size), cpu_(dnnl::engine(dnnl::engine::kind::cpu, 0), info.device), a_(desc(size.m, size.k, transpose_a)),
        b_(desc(size.k, size.n, transpose_b)), factors_(info, (size.m * size.k + size.k * size.n + 1) / 2 + 32) {
    require_instructions();
  }

  void run(ThreadPool& pool, const Matrix& a, const Matrix& b, float* c, std::int64_t ld) {
    if (size_.m == 0 || size_.n == 0) return;
    if (size_.k == 0) return multiply(a, b, c, ld, size_);        // zeros
    auto* first = reinterpret_cast<std::uint16_t*>(factors_.data());
    auto* second = first + (size_.m * size_.k + 31) / 32 * 32;
    round(pool, a, size_.m, size_.k, first);
    round(pool, b, size_.k, size_.n, second);
    if (ld != ld_) build(ld);
    memory_[0].set_data_handle(first);
    memory_[1].set_data_handle(second);
    memory_[2].set_data_handle(c);
    use_threads(1);
    call_.run();
  }

 private:
  static dnnl::memory::desc desc(std::int64_t rows, std::int64_t columns, bool transposed) {
    return {{rows, columns}, dnnl::memory::data_type::bf16, transposed ? dnnl::memory::format_tag::ba : dnnl::memory::format_tag::ab};
  }

  void build(std::int64_t ld) {
    if (size_.m == 0 || size_.n == 0 || size_.k == 0) return;
    const dnnl::memory::desc c({size_.m, size_.n}, dnnl::memory::data_type::f32, dnnl::memory::dims{ld, 1});
    use_threads(1);
    const dnnl::matmul::primitive_desc primitive(dnnl::matmul::desc(a_, b_, c), user_scratchpad(), cpu_.engine);
    refuse_reference("a product of bfloat16", primitive.impl_info_str());
    memory_ = {cpu_.wrap(a_), cpu_.wrap(b_), cpu_.wrap(c)};
    const dnnl::memory scratch = cpu_.scratch(primitive.scratchpad_desc());
    call_ = Call(cpu_, dnnl::matmul(primitive), {{DNNL_ARG_SRC, memory_[0]}, {DNNL_ARG_WEIGHTS, memory_[1]}, {DNNL_ARG_DST, memory_[2]},
                                                 {DNNL_ARG_SCRATCHPAD, scratch}});
    ld_ = ld;
  }

  /// oneDNN multiplies bfloat16 on any processor with AVX-512; the name of what it does for dense matrices tells how.
  void require_instructions() const {
    if (size_.m == 0 || size_.n == 0 || size_.k == 0) return;
    constexpr const char* kNeeds = "train.precision = \"bf16_native\" needs a processor that multiplies bfloat16 (AVX-512 BF16); this one does not, "
                                   "\"bf16\" gives the same roundings in float32";
    std::string name;
    try {
      const dnnl::memory::desc c({size_.m, size_.n}, dnnl::memory::data_type::f32, dnnl::memory::format_tag::ab);
      name = dnnl::matmul::primitive_desc(dnnl::matmul::desc(a_, b_, c), user_scratchpad(), cpu_.engine).impl_info_str();
    } catch (const dnnl::error&) {
      fail(Code::failed_precondition, kNeeds);
    }
    cohort::check(name.find("bf16") != std::string::npos, Code::failed_precondition, kNeeds);
  }

  ProductSize size_;
  Cpu cpu_;
  dnnl::memory::desc a_, b_;
  ScratchFloats factors_;
  std::array<dnnl::memory, 3> memory_;
  Call call_;
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
