#include "checkpoint/residual_files.hpp"

#include <fmt/core.h>

#include <array>

#include "checkpoint/open_checkpoint.hpp"
#include "checkpoint/redistribution.hpp"
#include "cohort/comm/control.hpp"

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
  const auto read = [&](OpenCheckpoint& file, Stateful& part, Extra extra) {
    Stateful* const parts = &part;
    try {
      file.load(nullptr, std::span(&parts, 1), extra);
      return true;
    } catch (const Error& error) {
      log.warning(std::string("residuals of error feedback: ") + error.what() + "; they count as zero");
      ++missing;
      return false;
    }
  };
  OnlyCount count;
  OpenCheckpoint mine(file_of(checkpoint, me));
  if (me == 0 && fs::exists(mine.path())) (void)read(mine, count, Extra::ignore);
  broadcast_values(communicator, std::span(&count.ranks, 1), 0);
  const auto before = static_cast<int>(count.ranks);
  if (before == 0) return;
  if (!residuals.keeps_residuals()) {
    if (me == 0) log.warning("the checkpoint has residuals of error feedback, which this run does without: what is late is lost");
    return;
  }
  State state(residuals, 0);
  Redistribution shares(before, now);
  shares.begin_with_zeros(residuals);
  for (const int rank : shares.inherited_by(me)) {
    OpenCheckpoint other(file_of(checkpoint, rank));
    if (read(rank == me ? mine : other, state, Extra::refuse)) shares.add(residuals);
  }
  const bool delivered = shares.finish(communicator, &residuals, state.layout);
  missing = all_reduce(communicator, missing, Reduce::sum);
  if (me != 0) return;
  if (missing > 0) log.warning(fmt::format("{} of {} files of residuals could not be read", missing, before));
  if (delivered) log.info(fmt::format("residuals of {} ranks are delivered by one step in float32", before));
}

}  // namespace cohort
