#include "run/stored_fields.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <sstream>

#include "checkpoint/open_checkpoint.hpp"
#include "cohort/base/error.hpp"

namespace cohort {
namespace {

/// Of "float32[28, 28, 1] image". Error data_loss.
Field field_of(const std::string& line, const std::filesystem::path& checkpoint) {
  const auto refuse = [&] { fail(Code::data_loss, checkpoint.string() + ": 'data/fields' describes no field by '" + line + "'"); };
  const std::size_t open = line.find('['), close = line.find("] ", std::min(open, line.size()));
  if (open == std::string::npos || close == std::string::npos) refuse();
  Field field{.name = line.substr(close + 2), .dtype = dtype_from(line.substr(0, open)), .shape = {}};
  for (const char* at = line.data() + open + 1; at < line.data() + close;) {
    std::int64_t dim = 0;
    const auto [end, error] = std::from_chars(at, line.data() + close, dim);
    if (error != std::errc{} || dim < 0 || field.shape.rank() + 1 >= Shape::kMaxRank) refuse();
    field.shape.append(dim);
    at = std::find_if(end, line.data() + close, [](char c) { return c != ',' && c != ' '; });
  }
  return field;
}

}  // namespace

std::string text_of_fields(const std::vector<Field>& fields) {
  std::string text;
  for (const Field& field : fields) {
    if (field.name.find_first_of(std::string_view("\n\0", 2)) != std::string::npos) return {};
    text += (text.empty() ? "" : "\n") + std::string(name(field.dtype)) + field.shape.text() + " " + field.name;
  }
  return text;
}

std::vector<Field> fields_in(OpenCheckpoint& checkpoint, Communicator& ranks) {
  std::istringstream lines(checkpoint.text(&ranks, "data/fields"));
  std::vector<Field> fields;
  for (std::string line; std::getline(lines, line);) fields.push_back(field_of(line, checkpoint.path()));
  return fields;
}

}  // namespace cohort
