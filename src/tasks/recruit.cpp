#include "tasks/recruit.hpp"

#include <exception>
#include <optional>
#include <utility>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

constexpr double kTellSeconds = 30;      // the process is there by then

}  // namespace

Recruit::Recruit(Communicator& tasks, int rank, Introduction told)
    : shared_(std::make_shared<Shared>(tasks.duplicate(), rank, std::move(told))) {
  thread_ = std::thread([shared = shared_] {
    start(*shared);
    if (!shared->given_up.load(std::memory_order_acquire)) return;
    // Nobody frees these any more: the others may be anywhere by now, and the process about to end.
    shared->group.transport().retire();
    if (shared->line) shared->line->transport().retire();
  });
}

Recruit::~Recruit() {
  if (!thread_.joinable()) return;
  shared_->given_up.store(true, std::memory_order_release);
  thread_.detach();
}

/// The root of a thread: whatever goes wrong, the new process is what fails.
void Recruit::start(Shared& shared) {
  const auto fails = [&](const std::string& why) {
    shared.error = why;
    shared.state.store(State::failed, std::memory_order_release);
  };
  try {
    shared.line.emplace(shared.group.spawn(shared.rank, [&] { return !shared.given_up.load(std::memory_order_acquire); }));
    const double usual = shared.line->timeout();
    shared.line->set_timeout(kTellSeconds);
    shared.told.tell(*shared.line);
    shared.line->set_timeout(usual);
    shared.state.store(State::there, std::memory_order_release);
  } catch (const Error& error) {
    shared.refused = error.code() == Code::unavailable;
    fails(error.what());
  } catch (const std::exception& error) {
    fails(error.what());
  }
}

Communicator Recruit::take() {
  thread_.join();
  check(shared_->line.has_value(), Code::internal, "a new process is there for one parameter task and not for another");
  shared_->line->be_watched();
  return std::move(*shared_->line);
}

}  // namespace cohort
