#include "cohort/base/log.hpp"

#include <unistd.h>

namespace cohort {
namespace {

void to_standard_error(LogLevel, std::string_view line) {
  // One write per line: lines of several ranks on one terminal stay whole.
  while (!line.empty()) {
    const auto written = ::write(STDERR_FILENO, line.data(), line.size());
    if (written <= 0) return;
    line.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

Log::Log(std::string prefix, LogLevel level) : Log(std::move(prefix), level, to_standard_error) {}

Log::Log(std::string prefix, LogLevel level, Sink sink)
    : prefix_(std::move(prefix)), level_(level), sink_(std::make_shared<const Sink>(std::move(sink))) {}

void Log::write(LogLevel level, std::string_view text) const {
  if (!enabled(level)) return;
  std::string line = prefix_;
  if (level == LogLevel::warning) line += "warning: ";
  if (level == LogLevel::error) line += "error: ";
  line += text;
  line += '\n';
  (*sink_)(level, line);
}

}  // namespace cohort
