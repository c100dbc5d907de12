#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/disk_file.hpp"
#include "cohort/tensor/tensor.hpp"

namespace cohort {

// The names and numbers that the writer and the reader of a checkpoint share.
inline constexpr std::string_view kCheckpointFormat = "cohort checkpoint", kPartFormat = "cohort checkpoint part";
inline constexpr std::int64_t kCheckpointVersion = 1;
inline constexpr std::string_view kConfiguration = "/configuration";

/// One piece of state on the host.
using StateItem = std::variant<Tensor, std::int64_t, double, std::string>;

[[nodiscard]] std::string_view kind_of(const StateItem& item);
[[nodiscard]] std::uint32_t crc_of(const StateItem& item);   // tensors are dense

[[nodiscard]] std::string file_name(std::int64_t step);   // "step-0000001200.h5"
[[nodiscard]] std::optional<std::int64_t> step_of(const std::filesystem::path& file);   // nothing: no checkpoint's name

// The ranks' files of one write have a beginning in common, which the index knows. It is another one where the step has been
// written before, so that the checkpoint that is there stays whole until the new one takes its place.
[[nodiscard]] std::string parts_name(std::int64_t step, int attempt);       // "step-0000001200", "step-0000001200.2"
[[nodiscard]] std::string part_file_name(const std::string& parts, std::int64_t rank);   // "step-0000001200.rank-3.h5"

struct PartName {
  std::string parts;
  std::int64_t step = 0;
};
[[nodiscard]] std::optional<PartName> part_of(const std::filesystem::path& file);       // nothing: no rank's file

// The mappings of virtual data sets lie in the file without a checksum that comes in time (HDF5 1.10 decodes them first, and can
// end the process over them), so an index has a CRC-32C of all its bytes behind HDF5's end of the file.
void append_seal(DiskFile& file);
[[nodiscard]] bool has_intact_seal(const std::filesystem::path& file);

}  // namespace cohort
