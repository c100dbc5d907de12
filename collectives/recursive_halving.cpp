// recursive_halving: reduce-scatter by recursive halving, all-gather by recursive doubling (Rabenseifner, "Optimization of
// collective reduction operations", 2004). 2 log2(p) rounds and 2(p-1)/p·n floats per rank, sums of (p-1)/p·n, for p a power
// of two. Other numbers of ranks are folded first: an extra rank sends its whole bucket to its neighbour and gets the whole
// result, 2n floats more on the way. Sums run along a tree, so a lossy codec re-encodes log2(p) times, and the error stays
// nearly the same for any p. Each rank encodes each element at most once, so one residual serves all rounds.

#include "cohort/comm/pairwise_work.hpp"

namespace cohort {
namespace {

class RecursiveHalvingWork final : public PairwiseWork {
 public:
  using PairwiseWork::PairwiseWork;

 private:
  Progress run() override {
    if (size() == 1) co_return;
    const bool sums = operation() != Operation::all_gather, scatters = operation() == Operation::reduce_scatter;
    const Pieces own = of_ranks(rank(), rank() + 1);
    if (folding().is_extra(rank())) {
      if (!sums) publish(own);
      if (sums) co_await swap_sums(rank() - 1, all(), {});
      else co_await swap_results(rank() - 1, own, {});
      co_await swap_results(rank() - 1, {}, scatters ? own : all());
      co_return;
    }
    const bool folds = folding().has_extra(rank());
    const int actors = folding().actors(), me = folding().actor_of(rank()), extra = rank() + 1;
    if (folds && sums) co_await swap_sums(extra, {}, all());
    if (folds && !sums) co_await swap_results(extra, {}, of_ranks(extra, extra + 1));

    for (int width = actors / 2; sums && width > 0; width /= 2) {
      const int mine = me / width * width, theirs = mine ^ width;
      co_await swap_sums(folding().across(rank(), width), of_actors(theirs, theirs + width), of_actors(mine, mine + width));
    }
    if (scatters && folds) {
      publish(of_ranks(extra, extra + 1));
      co_await swap_results(extra, of_ranks(extra, extra + 1), {});
    }
    if (scatters) co_return;
    publish(sums ? of_actors(me, me + 1) : own);
    for (int width = 1; width < actors; width *= 2) {
      const int mine = me / width * width, theirs = mine ^ width;
      co_await swap_results(folding().across(rank(), width), of_actors(mine, mine + width), of_actors(theirs, theirs + width));
    }
    if (folds) co_await swap_results(extra, all(), {});
  }
};

double cost(const CostQuery& q) {
  const Folding folding(q.ranks());
  double seconds = 2 * q.round(q.bytes, [&](int rank) { return folding.actor_beside(rank); });
  if (folding.extras() > 0) seconds += q.sum(q.bytes);
  double part = q.bytes / 2;
  for (int width = folding.actors() / 2; width > 0; width /= 2, part /= 2) {
    seconds += 2 * q.round(part, [&](int rank) { return folding.across(rank, width); }) + q.sum(part);
  }
  return seconds;
}

const Registered<CollectiveType> recursive_halving{"recursive_halving", {
    .summary = "halving and doubling (Rabenseifner): least bytes in 2 log2(p) rounds, best for 2^k ranks",
    .make = collective_of<RecursiveHalvingWork>,
    .lossy_codecs = true,
    .cost = cost,
}};

}  // namespace
}  // namespace cohort
