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
    if (is_extra()) {
      if (!sums) publish(own);
      if (sums) co_await swap_sums(rank() - 1, all(), {});
      else co_await swap_results(rank() - 1, own, {});
      co_await swap_results(rank() - 1, {}, scatters ? own : all());
      co_return;
    }
    const Pieces extra = has_extra() ? of_ranks(rank() + 1, rank() + 2) : Pieces{};
    if (has_extra() && sums) co_await swap_sums(rank() + 1, {}, all());
    if (has_extra() && !sums) co_await swap_results(rank() + 1, {}, extra);

    for (int width = actors() / 2; sums && width > 0; width /= 2) {
      const int low = actor() / (2 * width) * (2 * width), middle = low + width;   // actors that hold the same elements
      const bool upper = actor() >= middle;
      const Pieces lower_half = of_actors(low, middle), upper_half = of_actors(middle, middle + width);
      co_await swap_sums(rank_of(actor() ^ width), upper ? lower_half : upper_half, upper ? upper_half : lower_half);
    }
    if (scatters) {
      publish(extra);
      if (has_extra()) co_await swap_results(rank() + 1, extra, {});
      co_return;
    }
    publish(sums ? of_actors(actor(), actor() + 1) : own);
    for (int width = 1; width < actors(); width *= 2) {
      const int mine = actor() / width * width, theirs = mine ^ width;
      co_await swap_results(rank_of(actor() ^ width), of_actors(mine, mine + width), of_actors(theirs, theirs + width));
    }
    if (has_extra()) co_await swap_results(rank() + 1, all(), {});
  }
};

const Registered<CollectiveType> recursive_halving{"recursive_halving", {
    .summary = "halving and doubling (Rabenseifner): least bytes in 2 log2(p) rounds, best for 2^k ranks",
    .make = collective_of<RecursiveHalvingWork>,
    .lossy_codecs = true,
}};

}  // namespace
}  // namespace cohort
