#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "cohort/tensor/tensor.hpp"

namespace cohort {

// The names and numbers that the writer and the reader of a checkpoint share.
inline constexpr std::string_view kCheckpointFormat = "cohort checkpoint";
inline constexpr std::int64_t kCheckpointVersion = 1;
inline constexpr std::string_view kConfiguration = "/configuration";
inline constexpr std::string_view kUnfinished = ".writing-";   // what the names of unfinished files begin with

/// One piece of state on the host.
using StateItem = std::variant<Tensor, std::int64_t, double, std::string>;

[[nodiscard]] std::string_view kind_of(const StateItem& item);
[[nodiscard]] std::uint32_t crc_of(const StateItem& item);   // tensors are dense

[[nodiscard]] std::string file_name(std::int64_t step);   // "step-0000001200.h5"
[[nodiscard]] std::optional<std::int64_t> step_of(const std::filesystem::path& file);   // nothing: no checkpoint's name

}  // namespace cohort
