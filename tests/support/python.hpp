#pragma once

#include <array>
#include <cstdio>
#include <string>

#include "cohort/base/error.hpp"

namespace cohort::testing {

/// What became of a program: what pclose says, and all that it wrote.
struct PythonRun {
  int status = 0;
  std::string output;
};

/// Runs Debian's Python, which has Debian's packages, whatever other Python is first in the path.
inline PythonRun run_python(const std::string& script_and_arguments) {
  std::FILE* pipe = popen(("/usr/bin/python3 -W ignore " + script_and_arguments + " 2>&1").c_str(), "r");
  check(pipe != nullptr, Code::internal, "cannot start Python");
  PythonRun run;
  std::array<char, 4096> part{};
  while (const std::size_t n = std::fread(part.data(), 1, part.size(), pipe)) run.output.append(part.data(), n);
  run.status = pclose(pipe);
  return run;
}

}  // namespace cohort::testing
