#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace cohort {

class Communicator;
class OpenCheckpoint;

/// The names of classes by label, as a checkpoint keeps them in "data/classes": a line for each.
[[nodiscard]] std::string text_of_classes(const std::vector<std::string>& names);

/// Collective. Those in a checkpoint; empty if it has none: its labels were numbers, or names were not kept then. Errors as
/// `load_checkpoint`.
[[nodiscard]] std::vector<std::string> classes_in(OpenCheckpoint& checkpoint, Communicator& ranks);

/// Error invalid_argument, naming a class that is only in one of them, unless a data set to go on with has the checkpoint's
/// classes, in any order.
void require_same_classes(const std::vector<std::string>& data, const std::vector<std::string>& checkpoint,
                          const std::filesystem::path& path);

/// Those of `all` that are not in `some`, as "a, b, c"; empty if there are none.
[[nodiscard]] std::string missing_classes(const std::vector<std::string>& all, const std::vector<std::string>& some);

}  // namespace cohort
