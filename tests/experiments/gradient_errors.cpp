// The error of an all-reduce of a real model's gradients through a codec, by algorithm and number of ranks: what each rank
// would encode is encoded, in one process, with the project's codecs. At 8 ranks the collectives themselves are run as well.
#include <fmt/core.h>

#include <bit>
#include <cmath>
#include <map>
#include <set>

#include "cohort/comm/collective.hpp"
#include "cohort/comm/thread_ranks.hpp"
#include "comm/model_gradients.hpp"
#include "experiments/experiment.hpp"

namespace cohort::testing {
namespace {

using Vectors = std::vector<std::vector<float>>;

/// One block of all ranks' gradients on its way to its owner and back.
class BlockSum {
 public:
  BlockSum(const Codec& codec, const Vectors& gradients, int ranks, int owner, Block block)
      : codec_(codec), ranks_(ranks), owner_(owner), block_(block), wire_(codec.wire_bytes(block.size)) {
    for (int r = 0; r < ranks; ++r) {
      const float* from = gradients[static_cast<std::size_t>(r)].data() + block.begin;
      x_.emplace_back(from, from + block.size);
    }
  }

  /// Every rank sends the owner its share; float32 sums in rank order.
  std::vector<float> direct() {
    std::vector<float> total(block_.size, 0.f);
    for (int r = 0; r < ranks_; ++r) {
      if (r == owner_) for (std::size_t i = 0; i < total.size(); ++i) total[i] += at(r)[i];
      else send(at(r), total);
    }
    return decoded(total);
  }
  /// Log2(ranks) rounds; in each, who is not on the owner's side sends what it has summed to its partner.
  std::vector<float> recursive_halving() {
    for (int width = ranks_ / 2; width > 0; width /= 2) {
      for (int r = 0; r < ranks_; ++r) {
        const bool kept = (r & width) == (owner_ & width), still_in = (r / width / 2) == (owner_ / width / 2) || width == ranks_ / 2;
        if (kept && still_in) send(at(r ^ width), at(r));
      }
    }
    return decoded(at(owner_));
  }
  /// From rank to rank, ending at the owner: the sum is encoded at every hop.
  std::vector<float> ring() {
    for (int hop = 1; hop < ranks_; ++hop) send(at((owner_ + hop) % ranks_), at((owner_ + hop + 1) % ranks_));
    return decoded(at(owner_));
  }

 private:
  std::vector<float>& at(int rank) { return x_[static_cast<std::size_t>(rank)]; }
  void send(const std::vector<float>& from, std::vector<float>& to) {
    codec_.encode(from.data(), from.size(), wire_.data(), nullptr, {.offset = block_.begin});
    codec_.decode(wire_.data(), to.size(), to.data(), Accumulate::add, {.offset = block_.begin});
  }
  std::vector<float> decoded(const std::vector<float>& total) {
    std::vector<float> result(total.size(), 0.f);
    send(total, result);
    return result;
  }

  const Codec& codec_;
  int ranks_, owner_;
  Block block_;
  std::vector<std::byte> wire_;
  Vectors x_;
};

struct Error {
  double lost = 0, norm = 0;
  void add(const Vectors& gradients, int ranks, std::size_t begin, const std::vector<float>& sum) {
    for (std::size_t i = 0; i < sum.size(); ++i) {
      double exact = 0;
      for (int r = 0; r < ranks; ++r) exact += static_cast<double>(gradients[static_cast<std::size_t>(r)][begin + i]);
      lost += (static_cast<double>(sum[i]) - exact) * (static_cast<double>(sum[i]) - exact);
      norm += exact * exact;
    }
  }
  [[nodiscard]] double relative() const { return std::sqrt(lost / norm); }
};

double computed(const std::string& algorithm, const Codec& codec, const Vectors& gradients, int ranks) {
  Error error;
  for (int owner = 0; owner < ranks; ++owner) {
    const Block block = block_of(owner, ranks, gradients[0].size());
    if (block.size == 0) continue;
    BlockSum sum(codec, gradients, ranks, owner, block);
    error.add(gradients, ranks, block.begin, algorithm == "direct" ? sum.direct() : algorithm == "ring" ? sum.ring() : sum.recursive_halving());
  }
  return error.relative();
}

double exchanged(const std::string& algorithm, const std::string& codec, const Vectors& gradients, int ranks) {
  double result = 0;
  run_as_threads(ranks, [&](Communicator& c) {
    CollectiveOptions options;
    options.algorithm = algorithm;
    options.codec_name = codec;
    options.network = some_network();
    const auto collective = make_collective(c, options);
    std::vector<float> data = gradients[static_cast<std::size_t>(c.rank())];
    Work& work = collective->all_reduce({.data = data.data(), .n = data.size()});
    work.start(0);
    work.wait();
    if (c.rank() != 0) return;
    Error error;
    error.add(gradients, ranks, 0, data);
    result = error.relative();
  }, {.nodes = apart(ranks), .log = LogLevel::error});
  return result;
}

}  // namespace

void run_gradient_errors(const Words& words) {
  const int step = std::stoi(words.one("--step", "20")), largest = std::stoi(words.one("--largest", "512"));
  constexpr int kExchanged = 8;
  const Vectors gradients = gradients_of_mlp(largest, step);
  std::string rows;
  for (const std::string codec : {"int8", "bf16"}) {
    Section section;
    const auto coder = Registry<CodecType>::instance().get(codec).make(section);
    for (const std::string algorithm : {"direct", "recursive_halving", "ring"}) {
      for (int ranks = 2; ranks <= largest; ranks *= 2) {
        rows += fmt::format("{}{{\"codec\": \"{}\", \"algorithm\": \"{}\", \"ranks\": {}, \"error\": {:.6g}", rows.empty() ? "" : ", ", codec,
                            algorithm, ranks, computed(algorithm, *coder, gradients, ranks));
        if (ranks == kExchanged) rows += fmt::format(", \"exchanged\": {:.6g}", exchanged(algorithm, codec, gradients, ranks));
        rows += "}";
      }
    }
  }
  fmt::print("{{\"elements\": {}, \"errors\": [{}]}}\n", gradients[0].size(), rows);
}

}  // namespace cohort::testing
