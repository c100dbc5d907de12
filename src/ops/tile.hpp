#pragma once

#include <cstdint>
#include <cstring>

/// The innermost loop of small matrix products: 4 rows of 16 columns of the result stay in registers while the inner
/// dimension runs. 8 sums of 8 lanes hide the latency of AVX2's two multiply-add units; with 6 rows g++ 12 keeps one sum in
/// memory, which halves the speed. The vectors are GCC's, so other targets get what they have.
namespace cohort::tile {

using Vector = float __attribute__((vector_size(32)));

inline constexpr std::int64_t kRows = 4, kColumns = 16;

[[nodiscard]] constexpr std::int64_t whole_columns(std::int64_t n) { return (n + kColumns - 1) / kColumns * kColumns; }

inline Vector load(const float* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline void store(float* to, Vector v) { std::memcpy(to, &v, sizeof v); }

/// A matrix by the distance between its rows and between its columns.
struct Strided {
  const float* data;
  std::int64_t row, column;
};

/// c [Rows, 16] := a [Rows, k] · b [k, 16], or c + the product; b's and c's columns lie one behind the other.
template <int Rows>
inline void product(const Strided& a, const float* b, std::int64_t ldb, std::int64_t k, float* c, std::int64_t ldc, bool add) {
  Vector sums[Rows][2] = {};
  const float* from = a.data;
  for (std::int64_t i = 0; i < k; ++i, from += a.column, b += ldb) {
    const Vector low = load(b), high = load(b + 8);
#pragma GCC unroll 4
    for (int r = 0; r < Rows; ++r) {
      const float x = from[r * a.row];
      sums[r][0] += x * low;
      sums[r][1] += x * high;
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < Rows; ++r, c += ldc) {
    store(c, add ? load(c) + sums[r][0] : sums[r][0]);
    store(c + 8, add ? load(c + 8) + sums[r][1] : sums[r][1]);
  }
}

/// c [rows, columns] := a [rows, k] · b [k, columns], or c + the product. rows is 1 to 4; columns are rounded up to whole 16,
/// so b and c must have that many.
inline void strip(std::int64_t rows, const Strided& a, const float* b, std::int64_t ldb, std::int64_t k, float* c, std::int64_t ldc,
                  std::int64_t columns, bool add = false) {
  for (std::int64_t j = 0; j < columns; j += kColumns) {
    switch (rows) {
      case 4: product<4>(a, b + j, ldb, k, c + j, ldc, add); break;
      case 3: product<3>(a, b + j, ldb, k, c + j, ldc, add); break;
      case 2: product<2>(a, b + j, ldb, k, c + j, ldc, add); break;
      default: product<1>(a, b + j, ldb, k, c + j, ldc, add); break;
    }
  }
}

}  // namespace cohort::tile
