// Local updates with averages now and then (Lin, Stich, Patel, Jaggi, "Don't use large mini-batches, use local SGD", ICLR 2020): every rank
// applies the optimizer to its own gradients, and every H steps parameters and slots become their mean over the ranks. With
// H = 1 and an optimizer that is linear in the gradient this is synchronous training.
#include <fmt/core.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "cohort/comm/control.hpp"
#include "cohort/updaters/updater.hpp"
#include "exchange/error_feedback.hpp"
#include "exchange/gradient_accumulator.hpp"
#include "exchange/gradient_codec.hpp"
#include "exchange/gradient_store.hpp"
#include "params/slice_update.hpp"
#include "updaters/gradient_verdict.hpp"

namespace cohort {
namespace {

/// Replaces flat vectors by their mean over the ranks, part by part through the memory of a collective.
class Average {
 public:
  Average(Communicator& communicator, const ExchangeOptions& options, std::int64_t longest)
      : ranks_(communicator.size()), longest_(longest), n_(std::clamp<std::int64_t>(longest, 1, part_of(options.bucket_mib))),
        collective_(make_collective(communicator, options.collective.with_codec("fp32"))) {
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
        store_(parameters.layout(), device_, bucket_ranges(parameters.layout(), options.exchange)), accumulator_(parameters.layout(), store_),
        feedback_(parameters.layout(), bucket_ranges(parameters.layout(), options.exchange)),
        average_(communicator, options.exchange, parameters.layout().flat_size()) {
    if (optimizer.sums() > 0) partials_.emplace(parameters.layout().flat_size(), optimizer.sums(), nullptr);
    update_.emplace(parameters, optimizer, device_, session.pool(), store_.ranges(), partials_ ? &*partials_ : nullptr);
  }

  Tensor gradient(std::size_t parameter) const override { return store_.gradient(parameter); }
  void ready(std::size_t parameter, const Tensor*) override { (void)accumulator_.complete(parameter); }
  void poll() override {}                   // nothing is sent during a step

  void begin(const StepInfo& info) override { step_ = info.step; }
  void begin_batch(bool last) override { accumulator_.begin_batch(last); }
  void contribute_zeros() override {
    if (!accumulator_.in_last_batch()) return;
    store_.zero();
    for (std::size_t p = 0; p < parameters_.layout().trained().size(); ++p) ready(p, nullptr);
  }
  void end_batch() override { accumulator_.end_batch(); }

  StepOutcome finish(const StepInfo& info, const StepScalars& mine) override {
    totals_.scalars = scalars_as<double>(mine);
    accumulator_.clear();
    // Gradients are weighted by this rank's share of the batch. Times the number of ranks they are those of its own samples and,
    // where shares differ, such that the mean over the ranks is the gradient of the whole batch.
    const double ranks = communicator_.size();
    const GradientVerdict verdict(store_.sum_of_squares(), ranks, clip_norm_);
    if (verdict.finite) {
      StepInfo scaled = info;
      scaled.gradient_scale = verdict.scale;
      update_->run(scaled, [] {});
      moved_ = true;
    } else {
      totals_.missed += 1;
    }
    totals_.applied = verdict.finite ? 1 : 0;
    stepped_ = true;
    if ((step_ + 1) % every_ != 0 && communicator_.size() > 1) {
      for (double& number : totals_.scalars.numbers()) number *= ranks;
      return {.applied = true, .gradient_norm = verdict.norm, .settled = false, .missed_here = !verdict.finite,
              .scalars = scalars_as<float>(totals_.scalars)};
    }
    settle();
    all_reduce(communicator_, totals_.numbers(), Reduce::sum);
    const bool missed = std::exchange(totals_.missed, 0) > 0;
    return {.applied = totals_.applied > 0, .gradient_norm = verdict.norm, .missed_here = !verdict.finite, .missed = missed,
            .scalars = scalars_as<float>(totals_.scalars)};
  }

  void settle() override {
    if (!std::exchange(stepped_, false) || communicator_.size() == 1) return;
    // What nobody has changed is its own mean already, and a mean that is computed may round it.
    const bool moved = std::exchange(moved_, false);
    if (all_reduce(communicator_, std::int64_t{moved}, Reduce::max) == 0) return;
    const PhaseScope communicating(*communicator_.context().profile, Phase::exchange);
    average_(device_, [this](std::int64_t at) { return parameters_.values().at(at); }, step_);
    for (std::size_t s = 0; s < parameters_.slots().size(); ++s) {
      average_(device_, [this, s](std::int64_t at) { return parameters_.slots()[s].values.at(at); }, step_);
    }
  }

  std::string skipped_text() const override {
    return every_ == 1 ? "a gradient is not finite on some rank, which does without this update"
                       : "a gradient was not finite on some rank since the last average, which did without that update";
  }
  ResidualKeeper& residuals() noexcept override { return feedback_; }
  UpdaterMemory memory() const noexcept override {
    return {.gradients = store_.bytes(), .exchange = store_.bytes(), .window = average_.bytes()};
  }
  /// In the words of an exchange over this rank alone, so that it reads as it always has.
  std::string text() const override {
    const std::size_t buckets = store_.ranges().size();
    return fmt::format("{} {} over {} (auto: all ranks are on one node)", buckets, buckets == 1 ? "bucket" : "buckets", node_memory_algorithm("auto"));
  }
  std::string codec_note(const ExchangeOptions& asked, const Communicator& ranks, std::int64_t steps) const override {
    return cohort::codec_note(asked, parameters_.layout(), steps, why_no_codec(false, ranks));
  }
  std::string memory_plan() const override {
    return fmt::format("every rank has parameters of its own and updates them by itself; they become their mean every {} steps", every_);
  }

 private:
  /// Numbers that the ranks add up with every average.
  struct Totals {
    StepScalarsOf<double> scalars{};
    double missed = 0;                      // updates that this rank did without since the last average
    double applied = 0;                     // 1 if it made this step's
    [[nodiscard]] std::span<double> numbers() noexcept { return {reinterpret_cast<double*>(this), sizeof(Totals) / sizeof(double)}; }
  };

  Communicator& communicator_;
  Parameters& parameters_;
  Device& device_;
  std::int64_t every_;
  double clip_norm_;
  GradientStore store_;
  GradientAccumulator accumulator_;
  ErrorFeedback feedback_;                  // keeps nothing: averages travel in float32
  Average average_;
  std::optional<UnitTable> partials_;       // the optimizer's sums, if it has some
  std::optional<SliceUpdate> update_;
  Totals totals_;
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
