#include "train/checkpoint_file.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <functional>

#include "cohort/base/crc32c.hpp"
#include "cohort/train/checkpoint.hpp"

namespace cohort {
namespace {

constexpr std::string_view kStem = "step-", kExtension = ".h5";

}  // namespace

std::string_view kind_of(const StateItem& item) {
  if (std::holds_alternative<Tensor>(item)) return "tensor";
  return std::holds_alternative<std::string>(item) ? "text" : "value";
}

std::uint32_t crc_of(const StateItem& item) {
  if (const auto* tensor = std::get_if<Tensor>(&item)) return crc32c(tensor->raw(), tensor->bytes());
  if (const auto* text = std::get_if<std::string>(&item)) return crc32c(text->data(), text->size());
  if (const auto* whole = std::get_if<std::int64_t>(&item)) return crc32c(whole, sizeof *whole);
  return crc32c(&std::get<double>(item), sizeof(double));
}

std::string file_name(std::int64_t step) { return fmt::format("{}{:010}{}", kStem, step, kExtension); }

std::optional<std::int64_t> step_of(const std::filesystem::path& file) {
  const std::string name = file.filename().string();
  std::int64_t step = 0;
  if (!name.starts_with(kStem) || !name.ends_with(kExtension)) return {};
  const char* const end = name.data() + name.size() - kExtension.size();
  const auto [at, error] = std::from_chars(name.data() + kStem.size(), end, step);
  if (error != std::errc{} || at != end || step < 0) return {};
  return step;
}

std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& directory) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    if (step_of(entry.path()) && !entry.is_symlink(error) && entry.is_regular_file(error)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return *step_of(a) > *step_of(b); });
  return files;
}

}  // namespace cohort
