#include "watch/loss_news.hpp"

#include <fmt/core.h>

#include <cstring>
#include <utility>

namespace cohort {

void LossNews::hear(std::string_view body) {
  Loss loss;
  if (body.size() < sizeof loss.head) return;
  std::memcpy(&loss.head, body.data(), sizeof loss.head);
  loss.reason = body.substr(sizeof loss.head);
  losses_.push_back(std::move(loss));
}

std::optional<std::string> LossNews::enter(Membership& membership, int me) {
  std::optional<std::string> excluded;
  std::erase_if(losses_, [&](const Loss& loss) {
    const int rank = loss.head.rank;
    const auto known = [&] { return membership.times_lost(rank) > loss.head.earlier; };
    if (!known()) membership.lose(rank, loss.reason);
    if (rank != me) return known() || membership.lost(rank);
    const double silent = loss.head.silent;
    constexpr auto kSilent = "declared lost after {:.1f} s without a sign of life: its gradients are refused";
    if (!excluded) excluded = silent > 0 ? fmt::format(kSilent, silent) : "declared lost, its gradients are refused: " + loss.reason;
    return true;
  });
  return excluded;
}

}  // namespace cohort
