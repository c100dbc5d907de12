#include "run/followers.hpp"

#include <algorithm>

namespace cohort {
namespace {

constexpr int kBeatTag = 29001, kWishTag = 29002;
constexpr double kPeriod = 1;         // seconds between two beats

}  // namespace

Followers::Followers(Communicator& world, int first) : world_(world), period_(std::min(kPeriod, world.timeout() / 4)) {
  wishes_.resize(static_cast<std::size_t>(world.size() - first));
  for (int rank = first; rank < world.size(); ++rank) {
    out_.emplace_back(world.transport());
    in_.emplace_back(world.transport()).receive(rank, kWishTag, &wishes_[in_.size() - 1], sizeof(std::int64_t));
  }
}

void Followers::hear() {
  for (std::size_t i = 0; i < in_.size(); ++i) {
    if (in_[i].done() && wishes_[i] != 0) wish_ = true;
  }
}

void Followers::beat(const Beat& now) {
  const double time = world_.context().clock->now();
  if (time - last_ < period_) return;
  hear();
  if (!std::ranges::all_of(out_, [](Transfer& transfer) { return transfer.done(); })) return;
  last_ = time;
  message_ = now;
  const int first = world_.size() - static_cast<int>(out_.size());
  for (std::size_t i = 0; i < out_.size(); ++i) out_[i].send(first + static_cast<int>(i), kBeatTag, &message_, sizeof message_);
}

void Followers::wait(std::vector<Transfer>& transfers, const char* what) {
  for (Transfer& transfer : transfers) {
    world_.wait(WaitStatus{.operation = what, .peer = transfer.peer()}, [&] { return transfer.done(); });
  }
}

void Followers::end(Beat last) {
  wait(out_, "sign of life");
  last.ended = 1;
  last_ = -period_;
  beat(last);
  wait(out_, "end of a phase");
  wait(in_, "end of a phase");        // each has sent one message: its wish to stop, or that it has heard
}

Beat follow(Communicator& world) {
  const PhaseScope waiting(*world.context().profile, Phase::slowest);
  Beat beat;
  std::int64_t wish = 0;
  Transfer out(world.transport());
  const auto tell = [&](std::int64_t what) {
    wish = what;
    out.send(0, kWishTag, &wish, sizeof wish);
  };
  while (beat.ended == 0) {
    Transfer in(world.transport());
    in.receive(0, kBeatTag, &beat, sizeof beat);
    world.wait([&] { return WaitStatus{.operation = "training of rank 0", .peer = 0, .step = beat.step}; },
               [&] {
                 if (wish == 0 && world.context().stop_requested()) tell(1);
                 return in.done();
               });
  }
  if (wish == 0) tell(0);
  world.wait(WaitStatus{.operation = "end of a phase", .peer = 0}, [&] { return out.done(); });
  return beat;
}

}  // namespace cohort
