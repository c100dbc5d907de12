#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace cohort {

enum class LogLevel { debug, info, warning, error, off };

/// Lines for people, on standard error. One per rank, since ranks can be threads of one process; copies share the sink.
/// Thread-safe; a line is never torn.
class Log {
 public:
  using Sink = std::function<void(LogLevel, std::string_view line)>;

  /// `prefix` opens every line, as in "[rank 3 on node7] ".
  explicit Log(std::string prefix = {}, LogLevel level = LogLevel::info);
  Log(std::string prefix, LogLevel level, Sink sink);

  void debug(std::string_view text) const { write(LogLevel::debug, text); }
  void info(std::string_view text) const { write(LogLevel::info, text); }
  void warning(std::string_view text) const { write(LogLevel::warning, text); }
  void error(std::string_view text) const { write(LogLevel::error, text); }
  [[nodiscard]] bool enabled(LogLevel level) const noexcept { return level >= level_; }

 private:
  void write(LogLevel level, std::string_view text) const;

  std::string prefix_;
  LogLevel level_;
  std::shared_ptr<const Sink> sink_;
};

}  // namespace cohort
