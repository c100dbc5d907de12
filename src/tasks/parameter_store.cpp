#include "tasks/parameter_store.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "cohort/comm/control.hpp"
#include "updaters/gradient_verdict.hpp"

namespace cohort {
namespace {

constexpr std::int64_t kStrip = 64 * ParameterLayout::kUnit;   // what one thread takes at a time

std::vector<GradientRange> owned_by(const Shard& shard, float* sum) {
  std::vector<GradientRange> owned;
  for (const FlatRange& range : shard.owned()) owned.push_back({range.begin, range.n, sum + shard.position(range.begin)});
  return owned;
}

void refuse_cut_parameters(const Parameters& kept) {
  for (const Parameter& parameter : kept.layout().trained()) {
    const std::int64_t mine = kept.shard()->part_of({parameter.offset, parameter.n}).n;
    check(mine == 0 || mine == parameter.n, Code::invalid_argument,
          "the optimizer needs norms of whole parameters, and equal blocks cut '" + parameter.name + "': use cluster.blocks = \"greedy\" or \"round_robin\"");
  }
}

}  // namespace

ParameterStore::ParameterStore(Parameters& kept, const Optimizer& optimizer, ThreadPool& pool, Communicator& tasks, const StoreOptions& options)
    : kept_(kept), pool_(pool), tasks_(tasks), options_(options), size_(kept.shard()->size()), sum_(static_cast<std::size_t>(size_), 0.f),
      squares_(static_cast<std::size_t>((size_ + kStrip - 1) / kStrip)) {
  if (options.compensation.lambda > 0) {
    read_.assign(static_cast<std::size_t>(options.workers), std::vector<float>(sum_.size()));
    if (options.compensation.adaptive) mean_square_.assign(sum_.size(), 0.f);
  }
  if (optimizer.sums() > 0) {
    refuse_cut_parameters(kept);
    partials_.emplace(kept.layout().flat_size(), optimizer.sums(), nullptr);
  }
  update_.emplace(kept, optimizer, host(), pool, owned_by(*kept.shard(), sum_.data()), partials_ ? &*partials_ : nullptr);
}

void ParameterStore::accept(int worker, const WireLayout& layout, const std::byte* wire, double weight, const ExchangeContext& context) {
  const bool plain = weight == 1 && read_.empty();
  if (!plain && decoded_.empty()) decoded_.resize(sum_.size());
  const auto pieces = layout.pieces();
  pool_.parallel_for(std::ssize(pieces), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const Piece& piece = pieces[static_cast<std::size_t>(i)];
      float* const to = (plain ? sum_ : decoded_).data() + piece.position;
      piece.codec->decode(wire + piece.wire, static_cast<std::size_t>(piece.n), to, plain && !empty_ ? Accumulate::add : Accumulate::assign,
                          context.at(static_cast<std::size_t>(piece.position)));
      if (!plain) add(piece.position, to, piece.n, weight, worker);
    }
  });
  empty_ = false;
}

void ParameterStore::accept(int worker, const float* gradient, double weight) {
  pool_.parallel_for((size_ + kStrip - 1) / kStrip, 1, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t from = begin * kStrip, to = std::min(end * kStrip, size_);
    add(from, gradient + from, to - from, weight, worker);
  });
  empty_ = false;
}

void ParameterStore::add(std::int64_t position, const float* gradient, std::int64_t n, double weight, int worker) {
  float* const sum = sum_.data() + position;
  const auto w = static_cast<float>(weight);
  if (!read_.empty()) {
    for (std::int64_t i = 0; i < n; ++i) {
      sum[i] = (empty_ ? 0.f : sum[i]) + w * compensated(gradient[i], static_cast<std::size_t>(position + i), worker);
    }
  } else if (empty_) {
    for (std::int64_t i = 0; i < n; ++i) sum[i] = w * gradient[i];
  } else {
    for (std::int64_t i = 0; i < n; ++i) sum[i] += w * gradient[i];
  }
}

/// Zheng et al., equations 8 to 10; the mean square is of the gradients as they come.
float ParameterStore::compensated(float g, std::size_t at, int worker) {
  constexpr float kEpsilon = 1e-7f;
  const DelayCompensation& how = options_.compensation;
  auto lambda = static_cast<float>(how.lambda);
  if (how.adaptive) {
    const auto decay = static_cast<float>(how.decay);
    mean_square_[at] = decay * mean_square_[at] + (1 - decay) * g * g;
    lambda /= std::sqrt(mean_square_[at] + kEpsilon);
  }
  const float moved = values()[at] - read_[static_cast<std::size_t>(worker)][at];
  float correction = lambda * g * g * moved;
  if (how.clip > 0) {
    const float most = static_cast<float>(how.clip) * std::fabs(g);
    correction = std::clamp(correction, -most, most);
  }
  return g + correction;
}

double ParameterStore::sum_of_squares() {
  pool_.parallel_for(std::ssize(squares_), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t strip = begin; strip < end; ++strip) {
      constexpr std::size_t kLanes = 8;
      std::array<double, kLanes> lanes{};
      const std::int64_t from = strip * kStrip, to = std::min(from + kStrip, size_);
      for (std::int64_t i = from; i < to; ++i) {
        const double value = sum_[static_cast<std::size_t>(i)];
        lanes[static_cast<std::size_t>(i) % kLanes] += value * value;
      }
      double total = 0;
      for (const double lane : lanes) total += lane;
      squares_[static_cast<std::size_t>(strip)] = total;
    }
  });
  double sum = 0;
  for (const double strip : squares_) sum += strip;
  return sum;
}

StepOutcome ParameterStore::apply(const StepInfo& info, double sum_scale, bool measured) {
  StepOutcome outcome{.applied = true};
  StepInfo scaled = info;
  scaled.gradient_scale = sum_scale;
  if (measured) {
    std::array<double, 1> squares{sum_of_squares()};
    if (tasks_.size() > 1) all_reduce(tasks_, squares, Reduce::sum);
    const GradientVerdict verdict(squares[0], sum_scale, options_.clip_norm);
    outcome.gradient_norm = verdict.norm;
    outcome.applied = verdict.finite;
    scaled.gradient_scale = verdict.scale;
  }
  if (outcome.applied) update_->run(scaled, [] {});
  empty_ = true;
  ++version_;
  return outcome;
}

StepOutcome ParameterStore::apply_alone(const float* gradient, const StepInfo& info, double scale) {
  StepInfo scaled = info;
  scaled.gradient_scale = scale;
  update_->take_gradients(sum_.data(), gradient);
  update_->run(scaled, [] {});
  update_->take_gradients(gradient, sum_.data());
  ++version_;
  return {.applied = true};
}

Tensor ParameterStore::move_values() {
  Tensor old = kept_.move_values();
  update_->values_moved();
  return old;
}

void ParameterStore::encode(const WireLayout& layout, std::byte* wire, const ExchangeContext& context) const {
  const auto pieces = layout.pieces();
  pool_.parallel_for(std::ssize(pieces), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const Piece& piece = pieces[static_cast<std::size_t>(i)];
      piece.codec->encode(kept_.values().at(piece.flat), static_cast<std::size_t>(piece.n), wire + piece.wire, nullptr,
                          context.at(static_cast<std::size_t>(piece.position)));
    }
  });
}

void ParameterStore::copy_values(float* to) const {
  if (size_ > 0) std::copy_n(values(), size_, to);
}

void ParameterStore::note_read(int worker) {
  if (!read_.empty()) copy_values(read_[static_cast<std::size_t>(worker)].data());
}

std::int64_t ParameterStore::bytes() const noexcept {
  const std::size_t n = sum_.size() + decoded_.size() + mean_square_.size() + read_.size() * sum_.size();
  return static_cast<std::int64_t>(n * sizeof(float));
}

}  // namespace cohort
