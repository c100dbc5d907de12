#include "tasks/token_line.hpp"

namespace cohort {

TokenLine::TokenLine(Communicator& client, const TaskLayout& layout)
    : client_(client), token_task_(layout.tasks.front()), in_(client.transport()), out_(client.transport()) {}

void TokenLine::report(Done done) {
  client_.wait(WaitStatus{.operation = "report", .peer = token_task_}, [&] { return out_.done(); });
  done.number = last_;
  done.stop = client_.context().stop_requested() ? 1 : 0;
  done_ = done;
  out_.send(token_task_, task_tag::kDone, &done_, sizeof done_);
}

void TokenLine::send(std::span<const float> statistics) {
  Transfer out(client_.transport());
  out.send(token_task_, task_tag::kStatistics, statistics.data(), statistics.size() * sizeof(float));
  client_.wait(WaitStatus{.operation = "statistics", .peer = token_task_}, [&] { return out.done(); });
}

std::vector<float> TokenLine::receive(std::size_t n) {
  std::vector<float> averages(n);
  Transfer in(client_.transport());
  in.receive(token_task_, task_tag::kAverages, averages.data(), n * sizeof(float));
  client_.wait(WaitStatus{.operation = "statistics", .peer = token_task_}, [&] { return in.done(); });
  return averages;
}

}  // namespace cohort
