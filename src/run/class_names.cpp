#include "run/class_names.hpp"

#include <algorithm>
#include <sstream>

#include "checkpoint/open_checkpoint.hpp"
#include "cohort/base/error.hpp"

namespace cohort {

std::string text_of_classes(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : "\n") + name;
  return text;
}

std::vector<std::string> classes_in(OpenCheckpoint& checkpoint, Communicator& ranks) {
  std::istringstream lines(checkpoint.text(&ranks, "data/classes"));
  std::vector<std::string> names;
  for (std::string line; std::getline(lines, line);) names.push_back(line);
  return names;
}

void require_same_classes(const std::vector<std::string>& data, const std::vector<std::string>& checkpoint,
                          const std::filesystem::path& path) {
  const std::string unknown = missing_classes(data, checkpoint), missing = missing_classes(checkpoint, data);
  if (unknown.empty() && missing.empty()) return;
  fail(Code::invalid_argument, "data.train has other classes than " + path.string() +
                                   (unknown.empty() ? "" : "; not in the checkpoint: " + unknown) +
                                   (missing.empty() ? "" : "; only in the checkpoint: " + missing));
}

std::string missing_classes(const std::vector<std::string>& all, const std::vector<std::string>& some) {
  std::string text;
  for (const std::string& name : all) {
    if (std::ranges::find(some, name) == some.end()) text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

}  // namespace cohort
