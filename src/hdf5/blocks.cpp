#include "hdf5/blocks.hpp"

namespace cohort::hdf5 {
namespace {

/// Elements `begin` to `end` of the part of the tensor whose first `fixed` indices are those of `at`; `inner` elements belong to
/// one index of the next dimension.
void cut(const Shape& shape, std::size_t fixed, std::array<std::int64_t, Shape::kMaxRank> at, std::int64_t begin, std::int64_t end,
         const std::function<void(const Block&)>& show) {
  if (begin >= end) return;
  std::int64_t inner = 1;
  for (std::size_t d = fixed + 1; d < shape.rank(); ++d) inner *= shape[static_cast<std::int64_t>(d)];
  const std::int64_t first_whole = (begin + inner - 1) / inner, end_whole = end / inner;
  if (first_whole > end_whole) {                       // inside one row
    at[fixed] = end_whole;
    return cut(shape, fixed + 1, at, begin - end_whole * inner, end - end_whole * inner, show);
  }
  if (begin < first_whole * inner) {
    at[fixed] = first_whole - 1;
    cut(shape, fixed + 1, at, begin - at[fixed] * inner, inner, show);
    at[fixed] = 0;
  }
  if (first_whole < end_whole) {
    Block block{.start = at, .count = {}, .elements = (end_whole - first_whole) * inner};
    block.start[fixed] = first_whole;
    for (std::size_t d = 0; d < shape.rank(); ++d) block.count[d] = d < fixed ? 1 : shape[static_cast<std::int64_t>(d)];
    block.count[fixed] = end_whole - first_whole;
    show(block);
  }
  if (end_whole * inner < end) {
    at[fixed] = end_whole;
    cut(shape, fixed + 1, at, 0, end - end_whole * inner, show);
  }
}

}  // namespace

void for_each_block(const Shape& shape, std::int64_t begin, std::int64_t end, const std::function<void(const Block&)>& show) {
  if (shape.rank() > 0) cut(shape, 0, {}, begin, end, show);
}

}  // namespace cohort::hdf5
