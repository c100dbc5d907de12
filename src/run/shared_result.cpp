#include "cohort/comm/control.hpp"
#include "run/shared_result.hpp"

#include <cstring>

namespace cohort {
namespace {

/// The beginning of `result_text`, as it lies in memory; behind it come the name and the value of each metric.
struct ResultHeader {
  Beat beat;
  std::int64_t all_there = 0, saved = 0;
  std::int64_t metrics = -1;                   // of the last validation; -1: there was none
  double loss = 0;
  std::int64_t samples = 0;
};

void conclude(Run& run) {
  run.result.steps = run.state.step;
  run.result.skipped = run.state.skipped;
  run.result.directory = run.out.directory.path;
  if (run.out.saved) run.result.checkpoint = run.out.directory.checkpoints() / "latest";
}

}  // namespace

std::string result_text(const Run& run, bool all_there) {
  ResultHeader header{.beat = run.beat(), .all_there = all_there ? 1 : 0, .saved = run.out.saved ? 1 : 0};
  std::string text(sizeof header, '\0');
  if (run.result.validation) {
    header.metrics = std::ssize(run.result.validation->metrics);
    header.loss = run.result.validation->loss;
    header.samples = run.result.validation->samples;
    for (const auto& [name, value] : run.result.validation->metrics) {
      text += name + '\0';
      text.append(reinterpret_cast<const char*>(&value), sizeof value);
    }
  }
  std::memcpy(text.data(), &header, sizeof header);
  return text;
}

bool take_result(Run& run, const std::string& text) {
  ResultHeader header;
  check(text.size() >= sizeof header, Code::data_loss, "rank 0 has sent the result of a run, and what has come is none");
  std::memcpy(&header, text.data(), sizeof header);
  run.take(header.beat);
  run.out.saved = header.saved != 0;
  if (header.metrics >= 0) {
    Evaluation& evaluation = run.result.validation.emplace();
    evaluation.loss = header.loss;
    evaluation.samples = header.samples;
    std::size_t at = sizeof header;
    for (std::int64_t i = 0; i < header.metrics; ++i) {
      auto& [name, value] = evaluation.metrics.emplace_back();
      name = text.c_str() + at;
      at += name.size() + 1;
      check(at + sizeof value <= text.size(), Code::data_loss, "rank 0 has sent the result of a run, and what has come is cut off");
      std::memcpy(&value, text.data() + at, sizeof value);
      at += sizeof value;
    }
  }
  conclude(run);
  return header.all_there != 0;
}

void share_result(Run& run, int active) {
  if (active < run.world.size()) {
    std::string text = run.out.is_root() ? result_text(run, true) : "";
    broadcast(run.world, text, 0);
    if (!run.out.is_root()) take_result(run, text);
  }
  conclude(run);
}

}  // namespace cohort
