#include "checkpoint/residual_files.hpp"

#include <fmt/core.h>

#include <array>
#include <map>
#include <vector>

namespace cohort {
namespace {

namespace fs = std::filesystem;

fs::path folder_of(const fs::path& checkpoints, int rank) { return checkpoints / "residuals" / fmt::format("rank-{:04}", rank); }

fs::path file_of(const fs::path& checkpoint, int rank) {
  return folder_of(checkpoint.has_parent_path() ? checkpoint.parent_path() : ".", rank) / checkpoint.filename();
}

}  // namespace

class ResidualFiles::State final : public Stateful {
 public:
  State(ResidualKeeper& residuals, std::int64_t of_ranks) : ranks(of_ranks), layout(residuals.residual_layout()), residuals_(residuals) {}
  void save(StateWriter& writer) const override {
    writer.value("residuals_of_ranks", ranks);
    writer.value("residual_layout", layout);
    residuals_.save(writer);
  }
  void load(StateReader& reader) override {
    reader.value("residuals_of_ranks", ranks);
    reader.value("residual_layout", layout);
    residuals_.load(reader);
  }
  std::int64_t ranks, layout;

 private:
  ResidualKeeper& residuals_;
};

namespace {

using Sums = std::map<std::string, std::vector<float>>;   // of residuals, by name

/// Adds up all residuals of this rank.
class Adder final : public StateWriter {
 public:
  explicit Adder(Sums& sums) : sums_(sums) {}
  void tensor(const std::string& name, const Tensor& value) override {
    std::vector<float>& sum = sums_[name];
    sum.resize(static_cast<std::size_t>(value.elements()), 0.f);
    const std::vector<float> addend = value.to_vector<float>();
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += addend[i];
  }
  void piece(const std::string&, const Shape&, std::int64_t, const Tensor&) override {}      // residuals are whole
  void value(const std::string&, std::int64_t) override {}
  void value(const std::string&, double) override {}
  void text(const std::string&, const std::string&) override {}

 private:
  Sums& sums_;
};

/// Makes the sums this rank's residuals; zeros where there are none.
class Putter final : public StateReader {
 public:
  explicit Putter(Sums& sums) : sums_(sums) {}
  void tensor(const std::string& name, const Tensor& value) override {
    std::vector<float>& sum = sums_[name];
    sum.resize(static_cast<std::size_t>(value.elements()), 0.f);
    value.copy_from(Tensor::of(value.shape(), sum));
  }
  void piece(const std::string&, const Shape&, std::int64_t, const Tensor&) override {}
  void value(const std::string&, std::int64_t&) override {}
  void value(const std::string&, double&) override {}
  void text(const std::string&, std::string&) override {}

 private:
  Sums& sums_;
};

/// How many ranks wrote residuals for this checkpoint; 0 if none.
struct OnlyCount final : Stateful {
  std::int64_t ranks = 0;
  void load(StateReader& reader) override { reader.value("residuals_of_ranks", ranks); }
};

}  // namespace

ResidualFiles::ResidualFiles(int rank, int ranks, ResidualKeeper& residuals, const fs::path& checkpoints, int keep,
                             const std::string& configuration, const Communicator& communicator)
    : state_(std::make_unique<State>(residuals, ranks)),
      writer_(folder_of(checkpoints, rank), keep, configuration, communicator.context().log, nullptr, communicator.rank_activity()) {}

ResidualFiles::~ResidualFiles() = default;

void ResidualFiles::save(std::int64_t step, bool best) {
  const std::array<Stateful*, 1> parts{state_.get()};
  writer_.save(parts, step, best);
  saved_step_ = step;
}

void ResidualFiles::mark_best(std::int64_t step) {
  if (step == saved_step_) writer_.mark_best();
}

void ResidualFiles::load(Communicator& communicator, ResidualKeeper& residuals, const fs::path& checkpoint) {
  const Log& log = communicator.context().log;
  const int me = communicator.rank(), now = communicator.size();
  std::int64_t missing = 0;
  OnlyCount count;
  const auto read = [&](int rank, Stateful& part, Extra extra) {
    Stateful* const parts = &part;
    try {
      load_checkpoint(file_of(checkpoint, rank), std::span(&parts, 1), extra);
      return true;
    } catch (const Error& error) {
      log.warning(std::string("residuals of error feedback: ") + error.what() + "; they count as zero");
      ++missing;
      return false;
    }
  };
  if (me == 0 && fs::exists(file_of(checkpoint, 0))) (void)read(0, count, Extra::ignore);
  communicator.broadcast_values(std::span(&count.ranks, 1), 0);
  const auto before = static_cast<int>(count.ranks);
  if (before == 0) return;
  if (!residuals.keeps_residuals()) {
    if (me == 0) log.warning("the checkpoint has residuals of error feedback, which this run does without: what is late is lost");
    return;
  }
  State state(residuals, 0);
  Sums sums;
  Adder add(sums);
  for (int rank = me; rank < before; rank += now) {
    if (read(rank, state, Extra::refuse)) residuals.save(add);
  }
  Putter put(sums);
  residuals.load(put);
  const bool other = communicator.all_reduce(std::int64_t{before != now || state.layout != residuals.residual_layout()}, Reduce::max) != 0;
  if (other) residuals.flush_residuals();
  missing = communicator.all_reduce(missing, Reduce::sum);
  if (me != 0) return;
  if (missing > 0) log.warning(fmt::format("{} of {} files of residuals could not be read", missing, before));
  if (other) log.info(fmt::format("residuals of {} ranks are delivered by one step in float32", before));
}

}  // namespace cohort
