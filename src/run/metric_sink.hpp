#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cohort/report/metrics_writer.hpp"
#include "cohort/run/result.hpp"
#include "run/trainer_state.hpp"

namespace cohort {

/// The means of one update, as every kind of training logs them.
struct StepMetrics {
  double loss = 0;
  std::span<const std::string> names;        ///< of the model's metrics
  std::span<const double> values;
  double rate = 0, norm = 0;                 ///< learning rate; of the averaged gradient, before clipping
  double replicas = 0, batch = 0;            ///< that trained, and their samples together
};

/// Where the numbers of a run go, each under the key that it has everywhere, for the step that the state is at. Nothing happens on
/// ranks that have not opened it.
class MetricSink {
 public:
  explicit MetricSink(const TrainerState& state) noexcept : state_(state) {}

  void open(const std::filesystem::path& directory, const MetricsStart& from);
  void log(std::string_view name, double value) const {
    for (const auto& writer : writers_) writer->scalar(name, state_.step, value);
  }
  void log_step(const StepMetrics& step) const;
  void log_evaluation(const Evaluation& evaluation) const;

  /// What was logged of a step is complete, for now.
  void end_step() const {
    for (const auto& writer : writers_) writer->end_step();
  }
  void flush() const {
    for (const auto& writer : writers_) writer->flush();
  }
  void close() const {
    for (const auto& writer : writers_) writer->close();
  }
  void discard() noexcept { writers_.clear(); }

 private:
  const TrainerState& state_;
  std::vector<std::unique_ptr<MetricsWriter>> writers_;
};

/// How fast the run is, from one line of metrics to the next.
class SpeedWindow {
 public:
  /// `work`: what has been done in all, in whatever unit `log` names.
  void begin(double now, double work) noexcept { began_ = now, samples_ = 0, work_ = work; }
  void add(std::int64_t samples) noexcept { samples_ += samples; }
  /// Logs samples per second and work per second, in multiples of `unit`, and begins anew.
  void log(const MetricSink& metrics, double now, std::string_view name, double work, double unit = 1);

 private:
  double began_ = 0, work_ = 0;
  std::int64_t samples_ = 0;
};

}  // namespace cohort
