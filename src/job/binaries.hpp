#pragma once

#include <span>
#include <string>

namespace cohort {

/// What this process runs, one "what = which" per line: the build ids of the program, of libcohort and of the plug-ins, as they
/// are loaded (a file may have been built anew since), and the versions of the libraries. Where something has no build id, a
/// CRC of its file stands for it. Equal texts mean equal code. `plugins`: their files, as they were loaded.
[[nodiscard]] std::string binaries_text(std::span<const std::string> plugins);

}  // namespace cohort
