#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_file.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/params/shard.hpp"
#include "hdf5/file.hpp"

namespace cohort {

/// A checkpoint opened to read, its format checked. Tensors in pieces are read from the ranks' files, not through the virtual data
/// sets: HDF5 takes a file that is missing for zeros. One thread at a time. Errors: data_loss, naming the file.
class CheckpointReader {
 public:
  explicit CheckpointReader(const std::filesystem::path& path);

  [[nodiscard]] const CheckpointHeader& header() const noexcept { return header_; }
  [[nodiscard]] std::vector<std::string> names() const;   // "/parameters/hidden/weight"; without the configuration
  [[nodiscard]] bool has(const std::string& name) const { return file_.has(name); }
  [[nodiscard]] std::string kind(const std::string& name) const { return file_.attribute<std::string>(name, "kind"); }
  /// "text", "float32[3, 5]", "int64 value": what a data set is, for messages and comparison.
  [[nodiscard]] std::string what(const std::string& name) const;

  struct Contents {
    StateItem item;
    std::string damage;                // why it is not what was written; empty: it is
  };
  /// `piece`: only these elements of a float32 tensor, in one dimension; all others are looked at and let go of.
  [[nodiscard]] Contents read(const std::string& name, std::optional<FlatRange> piece = {}) const;
  /// Error data_loss if it is damaged.
  [[nodiscard]] StateItem intact(const std::string& name, std::optional<FlatRange> piece = {}) const;

 private:
  struct Part {
    std::string path;
    hdf5::File file;
  };
  struct StoredPiece {
    std::int64_t rank = 0;
    FlatRange range;
    std::uint32_t crc = 0;
  };

  static void refuse_external(const hdf5::File& file, const std::string& name);
  [[nodiscard]] StateItem read_whole(const std::string& name) const;
  [[nodiscard]] Contents read_pieces(const std::string& name, std::optional<FlatRange> piece) const;
  /// Of all ranks, in the order of the tensor; they cover it.
  [[nodiscard]] std::vector<StoredPiece> pieces_of(const std::string& name, const Shape& whole) const;
  [[nodiscard]] const Part& part(std::int64_t rank) const;
  [[nodiscard]] std::string path_of_part(std::int64_t rank) const;
  [[noreturn]] void refuse(const std::string& name, const std::string& why) const;

  hdf5::File file_;
  std::uintmax_t bytes_;
  std::string parts_;                  // of the names of the ranks' files; empty: there are none
  std::int64_t ranks_ = 0;
  mutable std::map<std::int64_t, Part> open_;   // ranks' files
  CheckpointHeader header_;
};

/// The text "/NAME" of the checkpoint; empty if it has none. Errors as the reader's.
[[nodiscard]] std::string text_in_checkpoint(const std::filesystem::path& path, const std::string& name);

/// All that is in the file, and in those that it needs, fits its checksums.
[[nodiscard]] bool is_intact_checkpoint(const std::filesystem::path& path);

}  // namespace cohort
