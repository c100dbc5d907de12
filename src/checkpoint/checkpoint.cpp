#include "cohort/checkpoint/checkpoint.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "checkpoint/checkpoint_file.hpp"
#include "checkpoint/checkpoint_reader.hpp"
#include "checkpoint/open_checkpoint.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

void add_statistics(const Tensor& tensor, CheckpointEntry& entry) {
  dispatch(tensor.dtype(), [&]<class T>() {
    double sum = 0, squares = 0;
    std::int64_t n = 0;
    for (const T& element : std::span(tensor.data<T>(), static_cast<std::size_t>(tensor.elements()))) {
      double x = 0;
      if constexpr (sizeof(T) == 2) x = static_cast<double>(static_cast<float>(element));   // 16-bit floats
      else x = static_cast<double>(element);
      if (!std::isfinite(x)) {
        ++entry.not_finite;
        continue;
      }
      entry.least = n == 0 ? x : std::min(entry.least, x);
      entry.most = n == 0 ? x : std::max(entry.most, x);
      sum += x;
      squares += x * x;
      ++n;
    }
    entry.mean = n == 0 ? 0 : sum / static_cast<double>(n);
    entry.norm = std::sqrt(squares);
  });
}

CheckpointEntry describe(const CheckpointReader& file, const std::string& name) {
  CheckpointEntry entry;
  entry.name = name.substr(1);
  entry.kind = file.kind(name);
  const auto [item, damage] = file.read(name);
  entry.intact = damage.empty();
  if (const auto* tensor = std::get_if<Tensor>(&item)) {
    entry.dtype = tensor->dtype();
    entry.shape = tensor->shape();
    add_statistics(*tensor, entry);
  } else if (const auto* text = std::get_if<std::string>(&item)) {
    entry.text = *text;
  } else if (const auto* whole = std::get_if<std::int64_t>(&item)) {
    entry.dtype = DType::int64;
    entry.text = std::to_string(*whole);
  } else {
    entry.dtype = DType::float64;
    entry.text = fmt::format("{}", std::get<double>(item));
  }
  return entry;
}

std::string table_line(const CheckpointEntry& entry, std::size_t name_width) {
  std::string line = fmt::format("  {:<{}}  ", entry.name, name_width);
  if (entry.kind == "tensor") {
    const std::string type = std::string(name(entry.dtype)) + entry.shape.text();
    line += fmt::format("{:<24} {:>12.5g} {:>12.5g} {:>12.5g} {:>12.5g}", type, entry.least, entry.most, entry.mean,
                        entry.norm);
    if (entry.not_finite > 0) line += fmt::format("  {} NOT FINITE", entry.not_finite);
  } else {
    for (const char c : entry.text) line += c == '\n' ? std::string("; ") : std::string{c};
  }
  return line + (entry.intact ? "\n" : "  DAMAGED\n");
}

}  // namespace

CheckpointHeader load_checkpoint(const fs::path& path, std::span<Stateful* const> parts, Extra extra) {
  return OpenCheckpoint(path).load(nullptr, parts, extra);
}

CheckpointDescription describe_checkpoint(const fs::path& path) { return OpenCheckpoint(path).describe(); }

CheckpointDescription describe(const CheckpointReader& file) {
  CheckpointDescription result{.header = file.header(), .entries = {}};
  for (const auto& name : file.names()) result.entries.push_back(describe(file, name));
  return result;
}

bool CheckpointDescription::intact() const {
  return std::all_of(entries.begin(), entries.end(), [](const CheckpointEntry& entry) { return entry.intact; });
}

std::string CheckpointDescription::text() const {
  std::size_t width = 4;
  for (const auto& entry : entries) width = std::max(width, entry.name.size());
  std::string result = fmt::format("{}\nstep {}, {} data sets{}, {}\n\n", header.path.string(), header.step, entries.size(),
                                   header.files > 1 ? fmt::format(" in {} files", header.files) : "", intact() ? "all intact" : "DAMAGED");
  result += fmt::format("  {:<{}}  {:<24} {:>12} {:>12} {:>12} {:>12}\n", "name", width, "type", "min", "max", "mean",
                        "norm");
  for (const auto& entry : entries) result += table_line(entry, width);
  return result + "\nconfiguration\n\n" + header.configuration;
}

}  // namespace cohort
