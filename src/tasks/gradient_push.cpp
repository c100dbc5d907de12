#include "tasks/gradient_push.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace cohort {
namespace {

/// Is any |x + residual| beyond a limit? Without branches, so that the loops vectorise.
bool exceeds(float most, const float* x, const float* residual, std::int64_t n) {
  if (most == std::numeric_limits<float>::max()) return false;
  int beyond = 0;
  if (residual == nullptr) {
    for (std::int64_t i = 0; i < n; ++i) beyond |= std::fabs(x[i]) > most ? 1 : 0;
  } else {
    for (std::int64_t i = 0; i < n; ++i) beyond |= std::fabs(x[i] + residual[i]) > most ? 1 : 0;
  }
  return beyond != 0;
}

}  // namespace

GradientPush::GradientPush(Communicator& client, const TaskLayout& layout, const ParameterLayout& parameters, const GradientStore& gradients, Device& device)
    : client_(client), layout_(layout), parameters_(parameters), gradients_(gradients), device_(device), tasks_(layout.tasks.size()),
      pieces_of_(parameters.trained().size()) {
  for (std::size_t t = 0; t < tasks_.size(); ++t) {
    const auto pieces = layout.dense[t].pieces();
    tasks_[t].headers.resize(pieces.size());
    if (layout.lossy) tasks_[t].wire.resize(std::max(layout.coded[t].bytes(), layout.feeds_back ? layout.dense[t].bytes() : 0));
    for (std::size_t i = 0; i < 2 * pieces.size() + 1; ++i) tasks_[t].out.emplace_back(client.transport());
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      for (std::size_t p = 0; p < parameters.trained().size(); ++p) {
        const Parameter& parameter = parameters.trained()[p];
        if (parameter.offset < pieces[i].flat + pieces[i].n && pieces[i].flat < parameter.offset + parameter.n) pieces_of_[p].emplace_back(t, i);
      }
    }
    tasks_[t].gone = tasks_[t].out.size();
  }
  if (layout.feeds_back) residual_.assign(static_cast<std::size_t>(parameters.flat_size()), 0.f);
  kept_ = residual_;
  if (!device.info().host_accessible) staged_.resize(static_cast<std::size_t>(parameters.flat_size()));
}

std::int64_t GradientPush::bytes() const noexcept {
  std::size_t bytes = (residual_.size() + kept_.size() + staged_.size()) * sizeof(float);
  for (const Task& task : tasks_) bytes += task.wire.size();
  return static_cast<std::int64_t>(bytes);
}

bool GradientPush::left(Task& task) {
  while (task.gone < task.out.size() && task.out[task.gone].done()) ++task.gone;
  return task.gone == task.out.size();
}

void GradientPush::begin(std::int64_t step) {
  for (std::size_t t = 0; t < tasks_.size(); ++t) {
    client_.wait(WaitStatus{.operation = "push", .peer = layout_.tasks[t], .step = step}, [&] { return left(tasks_[t]); });
  }
  ++number_;
  overflows_ = false;
  coded_ = layout_.lossy && step >= layout_.dense_steps && !flushes_;
  for (std::size_t t = 0; t < tasks_.size(); ++t) {
    Task& task = tasks_[t];
    task.layout = &(coded_ ? layout_.coded : layout_.dense)[t];
    task.missing.assign(task.headers.size(), 0);
    task.sent = task.gone = 0;
    task.header = {.number = number_, .step = step, .coded = coded_ ? 1 : 0};
    task.out[0].send(layout_.tasks[t], task_tag::kPush, &task.header, sizeof task.header);
  }
  for (const auto& pieces : pieces_of_) {
    for (const auto& [t, i] : pieces) ++tasks_[t].missing[i];
  }
}

void GradientPush::ready(std::size_t parameter) {
  for (const auto& [t, i] : pieces_of_[parameter]) --tasks_[t].missing[i];
  if (!staged_.empty()) return;                // leaves the device as a whole
  for (std::size_t t = 0; t < tasks_.size(); ++t) send_ready(t);
}

bool GradientPush::poll() {
  bool all = true;
  for (Task& task : tasks_) all = left(task) && all;
  return all;
}

/// Of a piece, which lies in one bucket.
const float* GradientPush::gradient(std::int64_t flat) const {
  if (!staged_.empty()) return staged_.data() + flat;
  for (const GradientRange& part : gradients_.ranges()) {
    if (flat >= part.begin && flat < part.begin + part.n) return part.gradient + (flat - part.begin);
  }
  fail(Code::internal, "a gradient outside all buckets");
}

void GradientPush::keep() {
  kept_ = residual_;                           // as long: allocates nothing
  kept_flushes_ = flushes_;
}

void GradientPush::take_back() {
  residual_ = kept_;
  flushes_ = kept_flushes_;
}

/// What travels of a piece: the gradient as it lies there, what the codec makes of it, or the gradient with all that is late.
const void* GradientPush::encoded(Task& task, std::size_t number, const Piece& piece) {
  const float* const from = gradient(piece.flat);
  float* const residual = residual_.empty() ? nullptr : residual_.data() + piece.flat;
  std::byte* const wire = task.wire.data() + piece.wire;
  if (!piece.codec->plain()) {
    overflows_ = overflows_ || exceeds(piece.codec->largest(), from, residual, piece.n);
    piece.codec->encode(from, static_cast<std::size_t>(piece.n), wire, residual,
                        {.step = task.header.step, .bucket = static_cast<int>(number), .rank = client_.rank(),
                         .offset = static_cast<std::size_t>(piece.position)});
    return wire;
  }
  if (residual == nullptr || !flushes_) return from;
  auto* const sum = reinterpret_cast<float*>(wire);
  for (std::int64_t i = 0; i < piece.n; ++i) sum[i] = from[i] + std::exchange(residual[i], 0.f);
  return wire;
}

Tensor GradientPush::residual_of(const Parameter& parameter) const {
  auto* const residual = const_cast<float*>(residual_.data());          // a tensor knows no const: who saves only reads
  return {host(), DType::float32, parameter.shape, residual + parameter.offset, nullptr, parameter.ld};
}

void GradientPush::save(StateWriter& writer) const {
  for (const Parameter& parameter : parameters_.trained()) writer.tensor("residuals/" + parameter.name, residual_of(parameter));
}

void GradientPush::load(StateReader& reader) {
  for (const Parameter& parameter : parameters_.trained()) reader.tensor("residuals/" + parameter.name, residual_of(parameter));
}

void GradientPush::send_ready(std::size_t t) {
  Task& task = tasks_[t];
  const auto pieces = task.layout->pieces();
  for (; task.sent < pieces.size() && task.missing[task.sent] == 0; ++task.sent) {
    const Piece& piece = pieces[task.sent];
    const void* const data = encoded(task, t, piece);
    task.headers[task.sent] = {.number = number_, .piece = static_cast<std::int64_t>(task.sent)};
    task.out[2 * task.sent + 1].send(layout_.tasks[t], task_tag::kPush, &task.headers[task.sent], sizeof(PieceHeader));
    task.out[2 * task.sent + 2].send(layout_.tasks[t], task_tag::kPush, data, piece.bytes);
  }
}

std::int64_t GradientPush::finish() {
  if (!staged_.empty()) {
    for (const GradientRange& part : gradients_.ranges()) {
      device_.stream().copy(staged_.data() + part.begin, part.gradient, static_cast<std::size_t>(part.n) * sizeof(float));
    }
    device_.stream().synchronize();
  }
  for (std::size_t t = 0; t < tasks_.size(); ++t) send_ready(t);
  flushes_ = false;
  return number_;
}

}  // namespace cohort
