#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_file.hpp"
#include "checkpoint/part_file.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
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
  [[nodiscard]] Contents read(const std::string& name) const;
  /// Error data_loss if it is damaged.
  [[nodiscard]] StateItem intact(const std::string& name) const;

  /// The elements of a tensor lie in the ranks' files. Error data_loss if they lie where no checkpoint has any.
  [[nodiscard]] bool is_in_pieces(const std::string& name) const;
  [[nodiscard]] const PartsOfIndex& parts() const noexcept { return parts_; }
  /// As stored, of the whole.
  [[nodiscard]] std::uint32_t crc(const std::string& name) const { return file_.attribute<std::uint32_t>(name, "crc32c"); }

 private:
  [[nodiscard]] StateItem read_whole(const std::string& name) const;
  [[nodiscard]] Contents read_pieces(const std::string& name) const;
  [[nodiscard]] const PartFile& part(std::int64_t rank) const;
  [[noreturn]] void refuse(const std::string& name, const std::string& why) const;

  hdf5::File file_;
  std::uintmax_t bytes_;
  PartsOfIndex parts_;
  mutable std::map<std::int64_t, PartFile> open_;   // ranks' files
  CheckpointHeader header_;
};

/// What is in it, entry by entry; damaged ones are marked.
[[nodiscard]] CheckpointDescription describe(const CheckpointReader& file);

/// All that is in the file, and in those that it needs, fits its checksums.
[[nodiscard]] bool is_intact_checkpoint(const std::filesystem::path& path);

}  // namespace cohort
