#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cohort/comm/codec.hpp"
#include "cohort/params/shard.hpp"

namespace cohort {

/// A run of a task's elements that travels as one message.
struct Piece {
  std::int64_t flat = 0;           ///< first element, in the flat space
  std::int64_t position = 0;       ///< the same in the shard
  std::int64_t n = 0;
  std::size_t wire = 0;            ///< first byte, of a task's message in one piece of memory; a multiple of 64
  std::size_t bytes = 0;
  const Codec* codec = nullptr;
};

/// How the elements of one parameter task travel: as the same pieces in both directions of a connection, so that no sizes do.
class WireLayout {
 public:
  WireLayout() = default;
  /// `small`: for what lies from `first_small` on in the flat space. `longest`: elements of a piece. The codecs must live as long.
  WireLayout(const Shard& shard, const Codec& codec, const Codec& small, std::int64_t first_small, std::int64_t longest);

  [[nodiscard]] std::span<const Piece> pieces() const noexcept { return pieces_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }       ///< of memory for all pieces
  /// Floats as they lie in memory, shard by shard.
  [[nodiscard]] bool plain() const noexcept { return plain_; }

 private:
  std::vector<Piece> pieces_;
  std::size_t bytes_ = 0;
  bool plain_ = true;
};

}  // namespace cohort
