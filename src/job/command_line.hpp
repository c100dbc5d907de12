#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cohort/job/job.hpp"

namespace cohort {

struct CommandLine {
  std::string program = "cohort";
  std::string job, argument, resume;
  std::vector<std::string> settings;   ///< "key=value" of every --set
  std::vector<std::string> plugins;    ///< files of every --plugin
  bool help = false, version = false;
};

/// Error invalid_argument with what was not understood.
[[nodiscard]] CommandLine parse_command_line(int argc, const char* const* argv);

/// What `cohort` alone prints: how to call it, and the jobs there are.
[[nodiscard]] std::string usage_text(const std::string& program);
/// What `cohort NAME --help` prints.
[[nodiscard]] std::string help_text(const std::string& program, const std::string& name, const JobType& job);

/// Loads a plug-in library: its registrations run now. Error invalid_argument with the loader's own reason.
void load_plugin(const std::string& file);

}  // namespace cohort
