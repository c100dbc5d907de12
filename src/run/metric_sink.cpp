#include "run/metric_sink.hpp"

namespace cohort {

void MetricSink::open(const std::filesystem::path& directory, const MetricsStart& from) {
  writers_.push_back(json_lines_writer(directory / "metrics.jsonl", from));
  writers_.push_back(tensorboard_writer(directory / "tensorboard", from));
}

void MetricSink::log_step(const StepMetrics& step) const {
  log("train/loss", step.loss);
  for (std::size_t m = 0; m < step.names.size(); ++m) log("train/" + step.names[m], step.values[m]);
  log("learning_rate", step.rate);
  log("gradient_norm", step.norm);
  log("replicas", step.replicas);
  log("batch", step.batch);
}

void MetricSink::log_evaluation(const Evaluation& evaluation) const {
  if (state_.position.sample == 0) log("epoch", static_cast<double>(state_.position.epoch));     // that ended here
  log("validation/loss", evaluation.loss);
  for (const auto& [name, value] : evaluation.metrics) log("validation/" + name, value);
}

void SpeedWindow::log(const MetricSink& metrics, double now, std::string_view name, double work, double unit) {
  const double seconds = now - began_;
  if (seconds > 0) {
    metrics.log("samples_per_second", static_cast<double>(samples_) / seconds);
    metrics.log(name, (work - work_) / seconds / unit);
  }
  begin(now, work);
}

}  // namespace cohort
