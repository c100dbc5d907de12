// Local updates with averages now and then (Lin, Stich, Patel, Jaggi, "Don't use large mini-batches, use local SGD", ICLR 2020): every rank
// applies the optimizer to its own gradients, and every H steps parameters and slots become their mean over the ranks. With
// H = 1 and an optimizer that is linear in the gradient this is synchronous training.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "cohort/updaters/updater.hpp"
#include "params/slice_update.hpp"

namespace cohort {
namespace {

/// One rank's own: nothing is sent.
ExchangeOptions alone(ExchangeOptions options) {
  options.collective.algorithm = "auto";
  options.collective.codec_name = "fp32";
  options.collective.codec = nullptr;
  options.error_feedback = "auto";
  options.each_batch = false;
  return options;
}

CollectiveOptions exact(CollectiveOptions options) {
  options.codec_name = "fp32";
  options.codec = nullptr;
  return options;
}

/// Replaces flat vectors by their mean over the ranks, part by part through the memory of a collective.
class Average {
 public:
  Average(Communicator& communicator, const ExchangeOptions& options, std::int64_t longest)
      : ranks_(communicator.size()), longest_(longest), n_(std::clamp<std::int64_t>(longest, 1, part_of(options.bucket_mib))),
        collective_(make_collective(communicator, exact(options.collective))) {
    memory_ = collective_->allocate(static_cast<std::size_t>(n_) * sizeof(float));
    whole_ = prepare(n_);
    rest_ = prepare(longest % n_);
  }

  void operator()(Device& device, const std::function<float*(std::int64_t)>& vector, std::int64_t step) {
    for (std::int64_t at = 0; at < longest_; at += n_) {
      Work* const work = at + n_ <= longest_ ? whole_ : rest_;
      const auto n = static_cast<std::int64_t>(work->bucket().n);
      auto* const buffer = static_cast<float*>(memory_.memory.get());
      const Tensor there(device, DType::float32, {n}, vector(at), nullptr), here(host(), DType::float32, {n}, buffer, nullptr);
      here.copy_from(there);
      work->start(step);
      work->wait();
      const float share = 1.f / static_cast<float>(ranks_);
      for (std::int64_t i = 0; i < n; ++i) buffer[i] *= share;
      there.copy_from(here);
    }
  }
  [[nodiscard]] std::int64_t bytes() const noexcept { return n_ * static_cast<std::int64_t>(sizeof(float)); }

 private:
  [[nodiscard]] static std::int64_t part_of(double mib) { return static_cast<std::int64_t>(mib * (1 << 20) / sizeof(float)) + 1; }
  Work* prepare(std::int64_t n) {
    if (n == 0) return nullptr;
    return &collective_->all_reduce({.data = static_cast<float*>(memory_.memory.get()), .n = static_cast<std::size_t>(n)});
  }

  int ranks_;
  std::int64_t longest_, n_;                // floats: of a vector, and of a part
  Buffer memory_;                           // outlives the collective
  std::unique_ptr<Collective> collective_;
  Work* whole_ = nullptr;
  Work* rest_ = nullptr;
};

class LocalSgd final : public Updater {
 public:
  LocalSgd(Communicator& communicator, Parameters& parameters, const Optimizer& optimizer, Session& session, const UpdaterOptions& options,
           std::int64_t every)
      : communicator_(communicator), parameters_(parameters), device_(session.device()), every_(every), clip_norm_(options.clip_norm),
        own_(communicator.split(communicator.rank())),
        exchange_(own_, parameters, device_, alone(options.exchange), {.own_thread = false}),
        average_(communicator, options.exchange, parameters.flat_size()) {
    if (optimizer.sums() > 0) partials_.emplace(parameters.flat_size(), optimizer.sums(), nullptr);
    update_.emplace(parameters, optimizer, device_, session.pool(), exchange_.owned(), partials_ ? &*partials_ : nullptr);
  }

  GradientExchange& exchange() noexcept override { return exchange_; }
  void begin(const StepInfo& info) override {
    step_ = info.step;
    exchange_.begin(step_);
  }
  void ready(std::size_t parameter, const Tensor*) override { exchange_.ready(parameter); }
  void poll() override { exchange_.poll(); }

  Outcome finish(const StepInfo& info, std::span<const float> words) override {
    exchange_.finish(words);
    // Gradients are weighted by this rank's share of the batch. Times the number of ranks they are those of its own samples and,
    // where shares differ, such that the mean over the ranks is the gradient of the whole batch.
    const double ranks = communicator_.size(), norm = ranks * std::sqrt(exchange_.sum_of_squares());
    const bool mine = std::isfinite(norm);
    if (mine) {
      StepInfo scaled = info;
      scaled.gradient_scale = ranks * (clip_norm_ > 0 && norm > clip_norm_ ? clip_norm_ / norm : 1);
      update_->run(scaled, [] {});
      moved_ = true;
    } else {
      words_[kMissed] += 1;
    }
    words_[kApplied] = mine ? 1 : 0;
    stepped_ = true;
    for (std::size_t i = 0; i < GradientExchange::kWords; ++i) words_[i] = exchange_.word(i);
    if ((step_ + 1) % every_ != 0 && communicator_.size() > 1) {
      for (std::size_t i = 0; i < GradientExchange::kWords; ++i) words_[i] *= ranks;
      return {.applied = true, .gradient_norm = norm, .settled = false, .missed_here = !mine};
    }
    settle();
    communicator_.all_reduce(std::span<double>(words_), Reduce::sum);
    const bool missed = std::exchange(words_[kMissed], 0) > 0;
    return {.applied = words_[kApplied] > 0, .gradient_norm = norm, .missed_here = !mine, .missed = missed};
  }

  float word(std::size_t i) const override { return static_cast<float>(words_[i]); }

  void settle() override {
    if (!std::exchange(stepped_, false) || communicator_.size() == 1) return;
    // What nobody has changed is its own mean already, and a mean that is computed may round it.
    const bool moved = std::exchange(moved_, false);
    if (communicator_.all_reduce(std::int64_t{moved}, Reduce::max) == 0) return;
    const PhaseScope communicating(*communicator_.context().profile, Phase::exchange);
    average_(device_, [this](std::int64_t at) { return parameters_.values(at); }, step_);
    for (std::size_t s = 0; s < parameters_.slots(); ++s) {
      average_(device_, [this, s](std::int64_t at) { return parameters_.slot(s, at); }, step_);
    }
  }

  std::string skipped_text() const override {
    return every_ == 1 ? "a gradient is not finite on some rank, which does without this update"
                       : "a gradient was not finite on some rank since the last average, which did without that update";
  }
  std::int64_t window_bytes() const noexcept override { return average_.bytes(); }
  std::string memory_plan() const override {
    return fmt::format("every rank has parameters of its own and updates them by itself; they become their mean every {} steps", every_);
  }

 private:
  /// Behind the trainer's words: updates that this rank did without since the last average, and 1 if it made this step's.
  static constexpr std::size_t kMissed = GradientExchange::kWords, kApplied = kMissed + 1;

  Communicator& communicator_;
  Parameters& parameters_;
  Device& device_;
  std::int64_t every_;
  double clip_norm_;
  Communicator own_;
  GradientExchange exchange_;
  Average average_;
  std::optional<UnitTable> partials_;       // the optimizer's sums, if it has some
  std::optional<SliceUpdate> update_;
  std::array<double, kApplied + 1> words_{};
  std::int64_t step_ = -1;
  bool stepped_ = false;                    // a step has ended since the last average
  bool moved_ = false;                      // and this rank's parameters have changed
};

const Registered<UpdaterType> local_sgd{
    "local_sgd",
    {.make = [](Section& section) -> UpdaterBuilder {
       std::int64_t every = 8;
       section.bind("average_every", every,
                    "steps that each rank updates by itself before parameters and optimizer state become their mean over the ranks; they also do at "
                    "the end of every epoch and before every checkpoint", at_least(1));
       return [every](Communicator& c, Parameters& p, const Optimizer& o, Session& s, const UpdaterOptions& options) {
         return std::make_unique<LocalSgd>(c, p, o, s, options, every);
       };
     }}};

}  // namespace
}  // namespace cohort
