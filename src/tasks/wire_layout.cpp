#include "tasks/wire_layout.hpp"

#include <algorithm>

#include "cohort/comm/collective.hpp"

namespace cohort {

WireLayout::WireLayout(const Shard& shard, const Codec& codec, const Codec& small, std::int64_t first_small, std::int64_t longest) {
  constexpr std::size_t kLine = 64;
  constexpr auto kUnit = static_cast<std::int64_t>(kBlockUnit);
  longest = std::max(longest / kUnit, std::int64_t{1}) * kUnit;      // codecs' blocks are not cut
  for (const FlatRange& range : shard.owned()) {
    for (std::int64_t at = range.begin; at < range.end();) {
      const bool is_small = at >= first_small;
      const std::int64_t end = is_small ? range.end() : std::min(range.end(), first_small);
      const Codec& mine = is_small ? small : codec;
      Piece piece{.flat = at, .position = shard.position(at), .n = std::min(longest, end - at), .wire = bytes_, .codec = &mine};
      piece.bytes = mine.wire_bytes(static_cast<std::size_t>(piece.n));
      bytes_ += (piece.bytes + kLine - 1) / kLine * kLine;
      plain_ = plain_ && mine.plain() && piece.wire == static_cast<std::size_t>(piece.position) * sizeof(float);
      at += piece.n;
      pieces_.push_back(piece);
    }
  }
}

}  // namespace cohort
