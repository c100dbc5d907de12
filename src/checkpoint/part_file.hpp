#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cohort/params/shard.hpp"
#include "cohort/tensor/tensor.hpp"
#include "hdf5/file.hpp"

namespace cohort {

/// The files of ranks that an index needs.
struct PartsOfIndex {
  std::filesystem::path index;
  std::string parts;                   ///< what their names begin with; empty: there are none
  std::int64_t ranks = 0, step = 0;
};

/// What a rank's file holds of one tensor.
struct StoredPiece {
  FlatRange range;                     ///< in row-major order of the tensor
  std::uint32_t crc = 0;
};

/// A rank's file of a checkpoint, opened to read, its format checked. Errors: data_loss, naming the file.
class PartFile {
 public:
  PartFile(const PartsOfIndex& of, std::int64_t rank);

  struct Contents {
    StoredPiece piece{};               ///< with the CRC that the elements have
    Tensor values;                     ///< one dimension
    bool intact = false;               ///< the CRC is the one that was stored
  };
  /// All that it has of the tensor, maybe no elements.
  [[nodiscard]] Contents read(const std::string& name, const Shape& whole) const;
  /// As `read`; Error data_loss if it is damaged.
  [[nodiscard]] Contents intact(const std::string& name, const Shape& whole) const;
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
  hdf5::File file_;
};

/// The pieces of one tensor, from all files that have some, in any order.
class TensorCover {
 public:
  void add(const StoredPiece& piece);
  /// They are one behind the other all of the tensor; nothing else may be asked for where they aren't.
  [[nodiscard]] bool is_whole(std::int64_t elements);
  [[nodiscard]] std::uint32_t crc() const;           ///< of all of it

 private:
  std::vector<StoredPiece> pieces_;
};

/// "FILE: 'NAME' WHY, the file is damaged"
[[nodiscard]] std::string damage_text(const std::string& path, const std::string& name, const std::string& why);
inline constexpr const char* kWrongCrc = "does not fit its CRC-32C";
inline constexpr const char* kWrongWholeCrc = "does not fit its CRC-32C, though each of its pieces does";
inline constexpr const char* kPiecesMissing = "has not all its pieces beside it";

/// A checkpoint is whole, or consists of its own parts: elements that lie in any other file could be anybody's. Error data_loss.
void refuse_external(const hdf5::File& file, const std::string& name);

/// Elements of a tensor from `begin` on: those of them that are in `wanted` go to where they belong in `out`, which is that.
void copy_overlap(const Tensor& values, std::int64_t begin, FlatRange wanted, float* out);

/// What two ranges have in common.
[[nodiscard]] FlatRange overlap(FlatRange a, FlatRange b);

}  // namespace cohort
