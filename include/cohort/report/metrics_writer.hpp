#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace cohort {

/// Where the numbers of a run go, so that it can be watched and compared. One rank writes; one thread at a time. Errors
/// (`data_loss`, as on a full disk) name the file.
class MetricsWriter {
 public:
  virtual ~MetricsWriter() = default;
  /// One value of one step, as in `scalar("loss", 12, 0.75)`. Steps never go back. NaN and infinity are allowed.
  virtual void scalar(std::string_view name, std::int64_t step, double value) = 0;
  /// All values of the step at hand are there, for now: other programs see them within a second. Cheap.
  virtual void end_step() = 0;
  /// Hands everything so far to the system, where other programs see it.
  virtual void flush() = 0;
  /// Hands everything to the disk; nothing comes after it.
  virtual void close() = 0;
};

/// How a writer begins.
struct MetricsStart {
  /// A resumed run names the last step that it keeps: what the run before it wrote about later steps is withdrawn. -1: a
  /// fresh run, nothing is.
  std::int64_t after_step = -1;
  bool validates = false;                ///< so is what was written of that step's own validation, which is made again
  std::function<double()> wall_time{};   ///< seconds since 1970; empty: the system's
  std::string host = "localhost";        ///< part of the name of an event file
};

/// JSON objects, one a line: {"step":12,"time":1712345678.25,"loss":0.75}, values in the order they came, NaN and infinity
/// as null. One for each step, or several where something took long between its values, as a validation does. Appends to
/// what is there; a last line that a crash tore is removed first.
[[nodiscard]] std::unique_ptr<MetricsWriter> json_lines_writer(const std::filesystem::path& file,
                                                               const MetricsStart& start = {});

/// A new TensorBoard event file events.out.tfevents.SECONDS.HOST in `folder`, beside those of earlier runs; TensorBoard reads
/// the files of one folder as one run.
[[nodiscard]] std::unique_ptr<MetricsWriter> tensorboard_writer(const std::filesystem::path& folder,
                                                                const MetricsStart& start = {});

}  // namespace cohort
