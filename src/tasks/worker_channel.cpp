#include "tasks/worker_channel.hpp"

namespace cohort {

WorkerChannel::WorkerChannel(Communicator& line, int at, std::size_t statistics)
    : at_(at), outbox_(line.transport()), in_(line.transport()), statistics_in_(line.transport()), statistics_(statistics) {
  in_.receive(at_, task_tag::kDone, done_.get(), sizeof *done_);
}

void WorkerChannel::send(Token token) {
  token.number = ++sent_;
  outbox_.send(at_, task_tag::kToken, token);
}

void WorkerChannel::send(std::span<const float> averages) { outbox_.send(at_, task_tag::kAverages, std::as_bytes(averages)); }

std::optional<Done> WorkerChannel::receive() {
  if (!in_.done()) return {};
  const Done done = *done_;
  in_.receive(at_, task_tag::kDone, done_.get(), sizeof *done_);
  return done;
}

bool WorkerChannel::is_news(const Done& done) {
  if (done.number <= heard_) return false;
  heard_ = done.number;
  return true;
}

void WorkerChannel::expect_statistics() {
  statistics_in_.receive(at_, task_tag::kStatistics, statistics_.data(), statistics_.size() * sizeof(float));
}

}  // namespace cohort
