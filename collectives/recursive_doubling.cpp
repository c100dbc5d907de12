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
    const Pieces own = of_ranks(rank(), rank() + 1);
    if (is_extra()) {
      if (!sums) publish(own);
      if (sums) co_await swap_sums(rank() - 1, all(), {});
      else co_await swap_results(rank() - 1, own, {});
      co_await swap_results(rank() - 1, {}, operation() == Operation::reduce_scatter ? own : all());
      co_return;
    }
    const Pieces extra = has_extra() ? of_ranks(rank() + 1, rank() + 2) : Pieces{};
    if (has_extra() && sums) co_await swap_sums(rank() + 1, {}, all());
    if (has_extra() && !sums) co_await swap_results(rank() + 1, {}, extra);
    if (!sums) publish(own);
    for (int width = 1; width < actors(); width *= 2) {
      const int peer = rank_of(actor() ^ width), mine = actor() / width * width, theirs = mine ^ width;
      if (sums) co_await swap_sums(peer, all(), all());
      else co_await swap_results(peer, of_actors(mine, mine + width), of_actors(theirs, theirs + width));
    }
    if (!has_extra()) co_return;
    const Pieces result = operation() == Operation::reduce_scatter ? extra : all();
    if (sums) publish(result);
    co_await swap_results(rank() + 1, result, {});
  }
};

const Registered<CollectiveType> recursive_doubling{"recursive_doubling", {
    .summary = "log2(p) rounds of the whole bucket: fewest messages, best for short buckets",
    .make = collective_of<RecursiveDoublingWork>,
}};

}  // namespace
}  // namespace cohort
