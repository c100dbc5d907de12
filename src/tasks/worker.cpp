#include "tasks/worker.hpp"

#include <cmath>
#include <limits>

namespace cohort {

Worker::Worker(Run& run, Setup& setup, Communicator& client, Communicator& group, const TaskLayout& layout)
    : run_(run), setup_(setup), client_(client), layout_(layout), profile_(run.profile),
      maker_(run, setup, group, {.ready = [this](std::size_t p) { push_.ready(p); }, .poll = [this] { (void)push_.poll(); }}),
      push_(client, layout, *setup.parameters, maker_.memory(), setup.replica->session().device()),
      pull_(client, layout, *setup.parameters, setup.replica->session().device()),
      statistics_(setup.replica->graph(), *setup.parameters), token_in_(client.transport()), out_(client.transport()) {}

bool Worker::work() {
  report({});
  for (;;) {
    const Token token = next_token();
    if (token.skipped >= 0 && token.skipped == kept_) take_back();
    if (token.averages != 0) take_averages();
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
  const PhaseScope waiting(profile_, Phase::exchange);
  for (;;) {
    token_in_.receive(layout_.tasks.front(), task_tag::kToken, &token_, sizeof token_);
    client_.wait([&] { return WaitStatus{.operation = "work", .peer = layout_.tasks.front(), .step = token_.step}; }, [&] {
      (void)push_.poll();
      return token_in_.done();
    });
    if (token_.number <= last_token_) continue;      // came twice
    last_token_ = token_.number;
    return token_;
  }
}

void Worker::report(Done done) {
  client_.wait(WaitStatus{.operation = "report", .peer = layout_.tasks.front()}, [&] { return out_.done(); });
  done.number = last_token_;
  done.stop = client_.context().stop_requested() ? 1 : 0;
  done_ = done;
  out_.send(layout_.tasks.front(), task_tag::kDone, &done_, sizeof done_);
}

void Worker::take_averages() {
  std::size_t n = 0;
  maker_.for_each_statistic([&](const Tensor& value) { n += static_cast<std::size_t>(value.elements()); });
  std::vector<float> averages(n);
  Transfer in(client_.transport());
  in.receive(layout_.tasks.front(), task_tag::kAverages, averages.data(), n * sizeof(float));
  client_.wait(WaitStatus{.operation = "statistics", .peer = layout_.tasks.front()}, [&] { return in.done(); });
  const float* from = averages.data();
  maker_.for_each_statistic([&](const Tensor& value) {
    value.copy_from(Tensor::of(value.shape(), std::vector<float>(from, from + value.elements())));
    from += value.elements();
  });
}

void Worker::give_statistics() {
  std::vector<float> mine;
  maker_.for_each_statistic([&](const Tensor& value) {
    const std::vector<float> values = value.to_vector<float>();
    mine.insert(mine.end(), values.begin(), values.end());
  });
  report({.kind = DoneKind::statistics});
  Transfer out(client_.transport());
  out.send(layout_.tasks.front(), task_tag::kStatistics, mine.data(), mine.size() * sizeof(float));
  client_.wait(WaitStatus{.operation = "statistics", .peer = layout_.tasks.front()}, [&] { return out.done(); });
}

void Worker::save_residuals(const Token& token) {
  if (residuals_ != nullptr) residuals_->save(token.step, token.share != 0);
  report({.kind = DoneKind::saved});
}

void Worker::mark_residuals(const Token& token) {
  if (residuals_ != nullptr) residuals_->mark_best(token.step);
  report({.kind = DoneKind::saved});
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
  profile_.begin_step(token.step + 1);
  const PhaseScope computing(profile_, Phase::compute);
  {
    const PhaseScope pulling(profile_, Phase::exchange);
    pull_.fetch(token.version);
  }
  if (token.in_steps != 0 && pull_.newest() > token.version) {        // the step is over: this gradient would be dropped
    report({.kind = DoneKind::outdated, .read = token.version});
    return profile_.end_step();
  }
  client_.begin_step(token.step);            // with what it has read: a slow worker's gradient is late
  keep(token);
  push_.begin(token.step);
  Done done = maker_.make(token);
  done.read = pull_.oldest();
  const PhaseScope pushing(profile_, Phase::exchange);
  done.gradient = push_.finish();
  if (push_.overflows()) done.norm = std::numeric_limits<double>::infinity();
  if (!std::isfinite(done.norm)) take_back();      // dropped, or its update is skipped
  report(done);
  profile_.end_step();
}

void Worker::evaluate(const Token& token) {
  const PhaseScope validating(profile_, Phase::validation);
  pull_.fetch(token.version);
  report(maker_.evaluate(token));
}

void Worker::add_to_summary() {
  maker_.add_to_summary();
  run_.summary.memory.communication += push_.bytes() + pull_.bytes();
}

}  // namespace cohort
