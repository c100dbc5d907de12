#include <fmt/core.h>

#include <charconv>
#include <fstream>
#include <iterator>
#include <optional>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/base/json.hpp"
#include "cohort/report/metrics_writer.hpp"
#include "report/output_file.hpp"

namespace cohort {
namespace {

constexpr std::string_view kOpening = "{\"step\":";

std::optional<std::int64_t> step_of(std::string_view line) {
  if (!line.starts_with(kOpening)) return std::nullopt;
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(line.data() + kOpening.size(), line.data() + line.size(), step);
  return error == std::errc{} ? std::optional(step) : std::nullopt;
}

/// Is it of what the run that begins so makes again?
bool is_withdrawn(std::string_view line, const MetricsStart& start) {
  const auto step = step_of(line);
  if (!step) return false;
  const bool validation = line.find("\"validation/") != std::string_view::npos;
  return *step > start.after_step || (start.validates && validation && *step == start.after_step);
}

/// The length of what stays: whole lines, without the last ones if they are withdrawn. Earlier lines may be of another run,
/// whose steps mean nothing here.
std::size_t length_to_keep(std::string_view text, const MetricsStart& start) {
  std::size_t end = text.rfind('\n') + 1;   // npos + 1 is 0
  while (start.after_step >= 0 && end > 0) {
    const std::size_t begin = end == 1 ? 0 : text.rfind('\n', end - 2) + 1;
    if (!is_withdrawn(text.substr(begin, end - begin), start)) break;
    end = begin;
  }
  return end;
}

void trim(const std::filesystem::path& file, const MetricsStart& start) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) return;
  std::ifstream in(file, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const std::size_t keep = length_to_keep(text, start);
  if (keep == text.size()) return;
  std::filesystem::resize_file(file, keep, error);
  if (error)
    fail(Code::data_loss, file.string() + ": cannot remove lines of steps that are run again: " + error.message());
}

class JsonLinesWriter final : public MetricsWriter {
 public:
  JsonLinesWriter(const std::filesystem::path& file, const MetricsStart& start)
      : wall_time_(start.wall_time ? start.wall_time : system_wall_time), out_(file, OutputFile::Mode::append) {
    out_.flush_soon();
  }
  ~JsonLinesWriter() override {
    try {
      if (out_.open()) flush();
    } catch (const Error&) {   // a destructor has nobody to tell; who needs to know calls flush
    }
  }

  void scalar(std::string_view name, std::int64_t step, double value) override {
    if (step != step_) finish_line();
    step_ = step;
    for (auto& [known, old] : values_) {
      if (known == name) {
        old = value;
        return;
      }
    }
    values_.emplace_back(name, value);
  }

  void end_step() override { finish_line(); }
  void flush() override {
    finish_line();
    out_.flush();
  }

  void close() override {
    finish_line();
    out_.close();
  }

 private:
  void finish_line() {
    if (values_.empty()) return;
    std::string line = fmt::format("{}{},\"time\":{:.3f}", kOpening, step_, wall_time_());
    for (const auto& [name, value] : values_) line += "," + json_text(name) + ":" + json_number(value);
    values_.clear();
    out_.write(line + "}\n");
  }

  std::function<double()> wall_time_;
  OutputFile out_;
  std::int64_t step_ = 0;
  std::vector<std::pair<std::string, double>> values_;   ///< of the step at hand
};

}  // namespace

std::unique_ptr<MetricsWriter> json_lines_writer(const std::filesystem::path& file, const MetricsStart& start) {
  trim(file, start);
  return std::make_unique<JsonLinesWriter>(file, start);
}

}  // namespace cohort
