// recursive_doubling: log2(p) rounds in each of which two ranks swap and sum the whole bucket. The fewest rounds, so the
// fastest for short buckets; n·log2(p) floats per rank. Other numbers of ranks than powers of two are folded first. Both
// ranks of a pair add the same two numbers, and a + b = b + a, so all ranks end with the same bits; through a lossy
// codec they would add different ones, so only exact codecs are served.

#include "cohort/comm/pairwise_work.hpp"

namespace cohort {
namespace {

class RecursiveDoublingWork final : public PairwiseWork {
 public:
  using PairwiseWork::PairwiseWork;

 private:
  Progress run() override {
    if (size() == 1) co_return;
    const bool sums = operation() != Operation::all_gather;   // reduce_scatter: more than asked for, the same block
    const bool scatters = operation() == Operation::reduce_scatter;
    const Pieces own = of_ranks(rank(), rank() + 1);
    if (folding().is_extra(rank())) {
      if (!sums) publish(own);
      if (sums) co_await swap_sums(rank() - 1, all(), {});
      else co_await swap_results(rank() - 1, own, {});
      co_await swap_results(rank() - 1, {}, scatters ? own : all());
      co_return;
    }
    const bool folds = folding().has_extra(rank());
    const int me = folding().actor_of(rank()), extra = rank() + 1;
    if (folds && sums) co_await swap_sums(extra, {}, all());
    if (folds && !sums) co_await swap_results(extra, {}, of_ranks(extra, extra + 1));
    if (!sums) publish(own);
    for (int width = 1; width < folding().actors(); width *= 2) {
      const int mine = me / width * width, theirs = mine ^ width, peer = folding().across(rank(), width);
      if (sums) co_await swap_sums(peer, all(), all());
      else co_await swap_results(peer, of_actors(mine, mine + width), of_actors(theirs, theirs + width));
    }
    if (!folds) co_return;
    const Pieces result = scatters ? of_ranks(extra, extra + 1) : all();
    if (sums) publish(result);
    co_await swap_results(extra, result, {});
  }
};

double cost(const CostQuery& q) {
  const Folding folding(q.ranks());
  double seconds = 2 * q.round(q.bytes, [&](int rank) { return folding.actor_beside(rank); });
  if (folding.extras() > 0) seconds += q.sum(q.bytes);
  for (int width = 1; width < folding.actors(); width *= 2) {
    seconds += q.round(q.bytes, [&](int rank) { return folding.across(rank, width); }) + q.sum(q.bytes);
  }
  return seconds;
}

const Registered<CollectiveType> recursive_doubling{"recursive_doubling", {
    .summary = "log2(p) rounds of the whole bucket: fewest messages, best for short buckets",
    .make = collective_of<RecursiveDoublingWork>,
    .cost = cost,
}};

}  // namespace
}  // namespace cohort
