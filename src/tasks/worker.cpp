#include "tasks/worker.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "tasks/running_statistics.hpp"

namespace cohort {

Worker::Worker(Run& run, Setup& setup, Communicator& client, const TaskLayout& layout)
    : run_(run), setup_(setup), client_(client),
      gradients_(run, setup, {.ready = [this](std::size_t p) { push_.ready(p); }, .poll = [this] { (void)push_.poll(); }}),
      push_(client, layout, setup.parameters->layout(), gradients_.memory(), setup.replica->session().device()),
      pull_(client, layout, *setup.parameters, setup.replica->session().device()),
      statistics_(setup.replica->graph(), *setup.parameters), line_(client, layout) {}

bool Worker::work() {
  line_.report({});
  for (;;) {
    const Token token = next_token();
    if (token.skipped >= 0 && token.skipped == kept_) take_back();
    if (token.averages != 0) {
      const RunningStatistics statistics(*setup_.parameters);
      statistics.write(line_.receive(statistics.elements()));
    }
    switch (token.kind) {
      case TokenKind::train: train(token); break;
      case TokenKind::evaluate: evaluate(token); break;
      case TokenKind::give_statistics: give_statistics(); break;
      case TokenKind::save_residuals: save_residuals(token); break;
      case TokenKind::mark_residuals: mark_residuals(token); break;
      case TokenKind::beat: break;
      case TokenKind::end: return token.complete != 0;
      case TokenKind::refused:
        fail(Code::cancelled, "this worker was given up by the others: its gradients are refused");
    }
  }
}

Token Worker::next_token() {
  const PhaseScope waiting(run_.profile, Phase::exchange);
  return line_.next([this] { (void)push_.poll(); });
}

void Worker::give_statistics() {
  std::vector<float> mine;
  RunningStatistics(*setup_.parameters).read(mine);
  line_.report({.kind = DoneKind::statistics});
  line_.send(mine);
}

void Worker::save_residuals(const Token& token) {
  if (residuals_ != nullptr) residuals_->save(token.step, token.share != 0);
  line_.report({.kind = DoneKind::saved});
}

void Worker::mark_residuals(const Token& token) {
  if (residuals_ != nullptr) residuals_->mark_best(token.step);
  line_.report({.kind = DoneKind::saved});
}

/// An update that is skipped takes back what all gradients for it have left here, and there may be several of one worker.
void Worker::keep(const Token& token) {
  if (token.in_steps != 0 && token.version == kept_) return;
  kept_ = token.version;
  statistics_.keep();
  push_.keep();
}

void Worker::take_back() {
  statistics_.put_back();
  push_.take_back();
}

void Worker::train(const Token& token) {
  run_.profile.begin_step(token.step + 1);
  const PhaseScope computing(run_.profile, Phase::compute);
  {
    const PhaseScope pulling(run_.profile, Phase::exchange);
    pull_.fetch(token.version);
  }
  if (token.in_steps != 0 && pull_.newest() > token.version) {        // the step is over: this gradient would be dropped
    line_.report({.kind = DoneKind::outdated, .read = token.version});
    return run_.profile.end_step();
  }
  client_.begin_step(token.step);            // with what it has read: a slow worker's gradient is late
  keep(token);
  push_.begin(token.step);
  Done done = gradients_.make(token);
  done.read = pull_.oldest();
  const PhaseScope pushing(run_.profile, Phase::exchange);
  done.gradient = push_.finish();
  if (push_.overflows()) done.norm = std::numeric_limits<double>::infinity();
  if (!std::isfinite(done.norm)) take_back();      // dropped, or its update is skipped
  line_.report(done);
  run_.profile.end_step();
}

void Worker::evaluate(const Token& token) {
  const PhaseScope validating(run_.profile, Phase::validation);
  pull_.fetch(token.version);
  line_.report(gradients_.evaluate(token));
}

void Worker::add_to_summary() {
  gradients_.add_to_summary();
  run_.summary.memory.communication += push_.bytes() + pull_.bytes();
}

}  // namespace cohort
