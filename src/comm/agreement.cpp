#include "cohort/comm/agreement.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <functional>
#include <map>

namespace cohort {
namespace {

/// "1000 on rank 2, 999 on ranks 0 1 3"; rare values first. Empty if all are equal.
std::string differences(const std::vector<OperationHeader>& headers,
                        const std::function<std::string(const OperationHeader&)>& value) {
  std::map<std::string, std::vector<std::size_t>> ranks_of;
  for (std::size_t rank = 0; rank < headers.size(); ++rank) ranks_of[value(headers[rank])].push_back(rank);
  if (ranks_of.size() < 2) return {};
  std::vector<std::pair<std::string, std::vector<std::size_t>>> sorted(ranks_of.begin(), ranks_of.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  std::string text;
  for (const auto& [content, ranks] : sorted) {
    text += (text.empty() ? "" : ", ") + content + (ranks.size() == 1 ? " on rank" : " on ranks");
    for (const std::size_t rank : ranks) text += " " + std::to_string(rank);
  }
  return text;
}

}  // namespace

const char* name(Operation operation) noexcept {
  switch (operation) {
    case Operation::all_reduce: return "all_reduce";
    case Operation::reduce_scatter: return "reduce_scatter";
    case Operation::all_gather: return "all_gather";
  }
  return "?";
}

std::string mismatch_text(const std::vector<OperationHeader>& headers) {
  std::string text;
  const auto compare = [&](const char* what, const std::function<std::string(const OperationHeader&)>& value) {
    const std::string difference = differences(headers, value);
    if (!difference.empty()) text += (text.empty() ? "" : "; ") + std::string(what) + " is " + difference;
  };
  compare("step", [](const OperationHeader& h) { return std::to_string(h.step); });
  compare("operation", [](const OperationHeader& h) { return std::string(name(h.operation)); });
  compare("bucket", [](const OperationHeader& h) { return std::to_string(h.bucket); });
  compare("dtype", [](const OperationHeader& h) { return std::string(name(h.dtype)); });
  compare("count", [](const OperationHeader& h) { return std::to_string(h.count); });
  if (text.empty()) {
    compare("hash of the configuration (algorithm, codec, chunk, memory)",
            [](const OperationHeader& h) { return std::to_string(h.configuration); });
  }
  const OperationHeader& first = headers.front();
  return fmt::format("the ranks are not about to exchange the same: {}; rank 0 is at step {}, {} of bucket {}", text,
                     first.step, name(first.operation), first.bucket);
}

Agreement::Agreement(Communicator& communicator)
    : communicator_(&communicator), in_(communicator.transport()), out_(communicator.transport()) {}

void Agreement::start(const OperationHeader& mine, int tag) {
  mine_ = mine;
  tag_ = tag;
  heard_ = {mine, mine};
  mismatch_.clear();
  progress_ = run();
}

// Dissemination with an idempotent operation (least, greatest), so any number of ranks comes out right.
Progress Agreement::run() {
  const int p = communicator_->size(), me = communicator_->rank();
  for (int distance = 1; distance < p; distance *= 2) {
    sent_ = heard_;
    in_.receive((me - distance + p) % p, tag_, &came_, sizeof came_);
    out_.send((me + distance) % p, tag_, &sent_, sizeof sent_);
    co_await until(in_);
    heard_.least = std::min(heard_.least, came_.least);
    heard_.greatest = std::max(heard_.greatest, came_.greatest);
    co_await until(out_);
  }
  if (heard_.least == heard_.greatest) co_return;
  all_.assign(static_cast<std::size_t>(p), mine_);   // all ranks know now that somebody differs: say who
  for (int distance = 1; distance < p; ++distance) {
    const int from = (me - distance + p) % p;
    in_.receive(from, tag_, &all_[static_cast<std::size_t>(from)], sizeof mine_);
    out_.send((me + distance) % p, tag_, &mine_, sizeof mine_);
    co_await until(in_);
    co_await until(out_);
  }
  mismatch_ = mismatch_text(all_);
}

}  // namespace cohort
