#include "checkpoint/checkpoint_file.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <functional>

#include "cohort/base/crc32c.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
#include "hdf5/read_count.hpp"

namespace cohort {
namespace {

constexpr std::string_view kStem = "step-", kExtension = ".h5", kRank = ".rank-";

/// All of the text as a number that is not negative.
std::optional<std::int64_t> number_in(std::string_view text) {
  std::int64_t number = 0;
  const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || at != text.data() + text.size() || number < 0) return {};
  return number;
}

constexpr std::string_view kSeal = "cohort index CRC";

/// CRC-32C of the next `bytes` of a stream; nothing if it has not as many.
std::optional<std::uint32_t> crc_of_stream(std::istream& in, std::uintmax_t bytes) {
  std::vector<char> buffer(std::min<std::uintmax_t>(bytes, std::size_t{1} << 20));
  std::uint32_t crc = 0;
  while (bytes > 0) {
    const auto n = static_cast<std::streamsize>(std::min<std::uintmax_t>(bytes, buffer.size()));
    if (!in.read(buffer.data(), n)) return {};
    crc = crc32c(buffer.data(), static_cast<std::size_t>(n), crc);
    bytes -= static_cast<std::uintmax_t>(n);
  }
  return crc;
}

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
  if (!name.starts_with(kStem) || !name.ends_with(kExtension)) return {};
  return number_in(std::string_view(name).substr(kStem.size(), name.size() - kStem.size() - kExtension.size()));
}

std::string parts_name(std::int64_t step, int attempt) {
  return fmt::format("{}{:010}", kStem, step) + (attempt > 1 ? fmt::format(".{}", attempt) : "");
}

std::string part_file_name(const std::string& parts, std::int64_t rank) {
  return fmt::format("{}{}{}{}", parts, kRank, rank, kExtension);
}

std::optional<PartName> part_of(const std::filesystem::path& file) {
  const std::string name = file.filename().string();
  const std::size_t at = name.find(kRank);
  if (!name.starts_with(kStem) || !name.ends_with(kExtension) || at == std::string::npos) return {};
  const std::size_t rank_at = at + kRank.size(), end = name.size() - kExtension.size();
  if (rank_at >= end || !number_in(std::string_view(name).substr(rank_at, end - rank_at))) return {};
  const std::string parts = name.substr(0, at);
  const std::size_t dot = parts.find('.');
  const auto step = number_in(std::string_view(parts).substr(kStem.size(), dot == std::string::npos ? dot : dot - kStem.size()));
  if (!step || (dot != std::string::npos && !number_in(std::string_view(parts).substr(dot + 1)))) return {};
  return PartName{parts, *step};
}

void append_seal(DiskFile& file) {
  std::vector<char> buffer(std::size_t{1} << 20);
  const std::uint64_t end = file.size();
  std::uint32_t crc = 0;
  for (std::uint64_t at = 0; at < end; at += buffer.size()) {
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), end - at));
    if (!file.read_at(at, buffer.data(), n)) return;                  // whoever closes it is told
    crc = crc32c(buffer.data(), n, crc);
  }
  file.write_at(end, kSeal.data(), kSeal.size());
  file.write_at(end + kSeal.size(), &crc, sizeof crc);
}

bool has_intact_seal(const std::filesystem::path& file) {
  constexpr std::uintmax_t kBytes = kSeal.size() + sizeof(std::uint32_t);
  const std::uintmax_t bytes = std::filesystem::file_size(file);
  if (bytes < kBytes) return false;
  hdf5::ReadCount::add_bytes(bytes);
  std::ifstream stream(file, std::ios::binary);
  const auto crc = crc_of_stream(stream, bytes - kBytes);
  std::string seal(kSeal.size(), ' ');
  std::uint32_t sealed = 0;
  stream.read(seal.data(), std::ssize(seal));
  stream.read(reinterpret_cast<char*>(&sealed), sizeof sealed);
  return crc && stream && seal == kSeal && sealed == *crc;
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
