#include "tasks/value_pull.hpp"

#include <fmt/core.h>

#include <algorithm>

namespace cohort {

ValuePull::ValuePull(Communicator& client, const TaskLayout& layout, Parameters& parameters, Device& device)
    : client_(client), layout_(layout), parameters_(parameters), device_(device), tasks_(layout.tasks.size()) {
  for (std::size_t t = 0; t < tasks_.size(); ++t) {
    Task& task = tasks_[t];
    const auto pieces = layout.values[t].pieces();
    const bool plain = std::ranges::all_of(pieces, [](const Piece& piece) { return piece.codec->plain(); });
    if (!plain) task.wire.resize(layout.values[t].bytes());
    task.headers.resize(pieces.size());
    task.out = Transfer(client.transport());
    for (std::size_t i = 0; i < 2 * pieces.size() + 1; ++i) task.in.emplace_back(client.transport());
  }
  if (!device.info().host_accessible) staged_.resize(static_cast<std::size_t>(parameters.layout().flat_size()));
}

std::int64_t ValuePull::oldest() const noexcept { return std::ranges::min_element(tasks_, {}, &Task::version)->version; }
std::int64_t ValuePull::newest() const noexcept { return std::ranges::max_element(tasks_, {}, &Task::version)->version; }

std::int64_t ValuePull::bytes() const noexcept {
  std::size_t bytes = staged_.size() * sizeof(float);
  for (const Task& task : tasks_) bytes += task.wire.size();
  return static_cast<std::int64_t>(bytes);
}

float* ValuePull::place(std::int64_t flat) { return staged_.empty() ? parameters_.values().at(flat) : staged_.data() + flat; }

void ValuePull::fetch(std::int64_t version) {
  for (std::size_t t = 0; t < tasks_.size(); ++t) {
    tasks_[t].asked = tasks_[t].version < version;
    if (tasks_[t].asked) ask(t, version);
  }
  for (std::size_t t = 0; t < tasks_.size(); ++t) {
    if (!tasks_[t].asked) continue;
    client_.wait(WaitStatus{.operation = "pull", .peer = layout_.tasks[t], .step = version}, [&] { return arrive(t); });
  }
  if (staged_.empty()) return;
  device_.stream().copy(parameters_.values().at(0), staged_.data(), staged_.size() * sizeof(float));
  device_.stream().synchronize();
}

void ValuePull::ask(std::size_t t, std::int64_t version) {
  Task& task = tasks_[t];
  const int rank = layout_.tasks[t];
  const auto pieces = layout_.values[t].pieces();
  task.arrived = 0;
  task.in[0].receive(rank, task_tag::kValues, &task.header, sizeof task.header);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    void* const to = pieces[i].codec->plain() ? static_cast<void*>(place(pieces[i].flat)) : task.wire.data() + pieces[i].wire;
    task.in[2 * i + 1].receive(rank, task_tag::kValues, &task.headers[i], sizeof(PieceHeader));
    task.in[2 * i + 2].receive(rank, task_tag::kValues, to, pieces[i].bytes);
  }
  task.request = {.number = task.request.number + 1, .version = version};
  task.out.send(rank, task_tag::kPull, &task.request, sizeof task.request);
}

bool ValuePull::arrive(std::size_t t) {
  Task& task = tasks_[t];
  for (; task.arrived < task.in.size() && task.in[task.arrived].done(); ++task.arrived) {
    if (task.arrived == 0) {
      if (task.header.number != task.request.number) {
        fail(Code::data_loss, fmt::format("parameter task {} answers request {} where {} was due", t, task.header.number, task.request.number));
      }
      continue;
    }
    const std::size_t piece = (task.arrived - 1) / 2;
    if (task.arrived % 2 == 0) {
      take(t, piece);
      continue;
    }
    if (task.headers[piece].number != task.request.number || task.headers[piece].piece != static_cast<std::int64_t>(piece)) {
      fail(Code::data_loss, fmt::format("parameter task {} sent piece {} of answer {} where piece {} of {} was due", t, task.headers[piece].piece,
                                        task.headers[piece].number, piece, task.request.number));
    }
  }
  if (task.arrived < task.in.size() || !task.out.done()) return false;
  task.version = task.header.version;
  return true;
}

void ValuePull::take(std::size_t t, std::size_t i) {
  const Piece& piece = layout_.values[t].pieces()[i];
  if (piece.codec->plain()) return;
  piece.codec->decode(tasks_[t].wire.data() + piece.wire, static_cast<std::size_t>(piece.n), place(piece.flat), Accumulate::assign,
                      {.step = tasks_[t].header.version, .bucket = static_cast<int>(t), .rank = layout_.tasks[t],
                       .offset = static_cast<std::size_t>(piece.position)});
}

}  // namespace cohort
