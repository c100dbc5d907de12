#include "checkpoint/part_reports.hpp"

#include <algorithm>

namespace cohort {
namespace {

constexpr int kTag = 0;                // of the communicator's own transport, which nothing else uses for messages

}  // namespace

std::span<PieceMark> PartReports::of(int rank) {
  return std::span(marks_).subspan(ranks_.rank() == 0 ? static_cast<std::size_t>(rank) * length_ : 0, length_);
}

void PartReports::expect(std::size_t tensors) {
  length_ = tensors + 1;
  reported_ = false;
  const bool root = ranks_.rank() == 0;
  marks_.assign(length_ * static_cast<std::size_t>(root ? ranks_.size() : 1), {});
  transfers_.clear();
  for (int rank = 1; root && rank < ranks_.size(); ++rank) {
    transfers_.emplace_back(ranks_.transport()).receive(rank, kTag, of(rank).data(), of(rank).size_bytes());
  }
}

void PartReports::report(const std::vector<PieceMark>* marks) {
  const auto mine = of(ranks_.rank());
  mine[0].n = marks != nullptr ? 1 : 0;
  if (marks != nullptr) std::ranges::copy(*marks, mine.begin() + 1);
  if (ranks_.rank() != 0) transfers_.emplace_back(ranks_.transport()).send(0, kTag, mine.data(), mine.size_bytes());
  reported_ = true;
}

bool PartReports::complete() {
  return reported_ && std::ranges::all_of(transfers_, [](Transfer& transfer) { return transfer.done(); });
}

void PartReports::wait_until_complete() {
  ranks_.wait(WaitStatus{.operation = "reports of a checkpoint's files"}, [this] { return complete(); });
}

bool PartReports::all_written() const {
  for (std::size_t at = 0; at < marks_.size(); at += length_) {
    if (marks_[at].n != 1) return false;
  }
  return true;
}

std::vector<PieceMark> PartReports::marks_of(std::size_t tensor) const {
  std::vector<PieceMark> result;
  for (std::size_t at = tensor + 1; at < marks_.size(); at += length_) result.push_back(marks_[at]);
  return result;
}

}  // namespace cohort
