#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace cohort {

/// A run is about to go on from the checkpoint of `step` in this directory: later ones, with their ranks' files and
/// residuals, and `best` if it means one of them, are moved to the first unused `superseded-N` there, and can be resumed
/// from there. `latest` means `step` then. One process calls it, before anybody writes. What was moved, for people; empty:
/// nothing. Error unavailable.
[[nodiscard]] std::string set_later_aside(const std::filesystem::path& checkpoints, std::int64_t step);

}  // namespace cohort
