#pragma once

#include <array>
#include <vector>

#include "exchange/compression.hpp"

namespace cohort {

/// One work per bucket and encoding, of the collective that encodes gradients. Works of an encoding are made when a step first
/// uses it.
class EncodedWorks {
 public:
  EncodedWorks(Collective& collective, Operation operation, Compression& compression)
      : collective_(collective), operation_(operation), compression_(compression) {}

  /// The next bucket: `data`: its floats; `part`: what of them is exchanged.
  void add(float* data, Block part) { buckets_.push_back({.data = data, .part = part}); }
  /// Collective. From here on works are of that encoding.
  void select(Encoding encoding);
  [[nodiscard]] Work& operator[](std::size_t bucket) const { return *buckets_[bucket].works[static_cast<std::size_t>(encoding_)]; }
  /// Starts a bucket's. Its floats are in place.
  void start(std::size_t bucket, std::int64_t step);

 private:
  struct Described {
    float* data;
    Block part;
    std::array<Work*, 2> works{};           // by encoding; null: not made yet
  };

  Collective& collective_;
  Operation operation_;
  Compression& compression_;
  std::vector<Described> buckets_;
  Encoding encoding_ = Encoding::exact;
};

}  // namespace cohort
