#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <functional>
#include <limits>
#include <utility>

#include "base/disk_file.hpp"
#include "checkpoint/checkpoint_file.hpp"
#include "checkpoint/checkpoint_folder.hpp"
#include "checkpoint/checkpoint_snapshot.hpp"
#include "checkpoint/part_reports.hpp"
#include "cohort/base/clock.hpp"
#include "cohort/base/crc32c.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/comm/control.hpp"
#include "hdf5/file.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

void store(hdf5::File& file, const std::string& name, const StateItem& item) {
  if (const auto* tensor = std::get_if<Tensor>(&item)) file.write(name, *tensor);
  else if (const auto* whole = std::get_if<std::int64_t>(&item)) file.write(name, DType::int64, {}, whole);
  else if (const auto* real = std::get_if<double>(&item)) file.write(name, DType::float64, {}, real);
  else file.write_text(name, std::get<std::string>(item));
  file.set_attribute(name, "kind", std::string(kind_of(item)));
  file.set_attribute(name, "crc32c", crc_of(item));
}

/// What has been written is read through the system again, which may have said that the disk took what it did not.
void require_stored(bool same, const fs::path& path, const std::string& name) {
  check(same, Code::data_loss, path.string() + ": '" + name + "' does not read as it was written: the disk has not kept it");
}

void require_stored(const hdf5::File& file, const std::string& name, const StateItem& item, DiskProgress* progress) {
  const auto* const text = std::get_if<std::string>(&item);
  require_stored(text != nullptr ? file.read_text(name) == *text : file.crc32c(name, progress) == crc_of(item), file.path(), name);
}

void store_header(hdf5::File& file, std::string_view format, std::int64_t step) {
  file.set_attribute("/", "format", std::string(format));
  file.set_attribute("/", "version", kCheckpointVersion);
  file.set_attribute("/", "step", step);
}

/// A tensor that lies in the files of all ranks; `marks`: what each of them has of it.
void store_pieces(hdf5::File& file, const CheckpointSnapshot::Piece& tensor, const std::vector<PieceMark>& marks, const std::string& parts) {
  const std::string name = "/" + tensor.name;
  std::vector<std::pair<PieceMark, hdf5::Source>> pieces;
  for (std::size_t rank = 0; rank < marks.size(); ++rank) {
    const PieceMark& mark = marks[rank];
    if (mark.n > 0) pieces.push_back({mark, {part_file_name(parts, static_cast<std::int64_t>(rank)), mark.begin, mark.n}});
  }
  std::ranges::sort(pieces, {}, [](const auto& piece) { return piece.second.begin; });
  std::vector<hdf5::Source> sources;
  std::uint32_t crc = 0;
  std::int64_t end = 0;
  for (auto& [mark, source] : pieces) {
    check(mark.begin == end, Code::internal, fmt::format("checkpoint: the ranks' pieces of '{}' do not fit together at element {}", tensor.name, end));
    end += mark.n;
    crc = combine_crc32c(crc, mark.crc, static_cast<std::uint64_t>(mark.n) * sizeof(float));
    sources.push_back(std::move(source));
  }
  check(end == tensor.whole.elements(), Code::internal,
        fmt::format("checkpoint: the ranks have {} of {} elements of '{}'", end, tensor.whole.elements(), tensor.name));
  if (sources.empty()) file.write(name, Tensor(host(), DType::float32, tensor.whole));
  else file.write_virtual(name, DType::float32, tensor.whole, sources);
  file.set_attribute(name, "kind", std::string("tensor"));
  file.set_attribute(name, "crc32c", crc);
}

}  // namespace

struct CheckpointWriter::Job {
  CheckpointFolder folder;
  int keep;
  std::string configuration;
  Log log;
  CheckpointSnapshot snapshot;
  std::int64_t step = 0;
  bool best = false;
  std::shared_ptr<RankActivity> activity{};          // null: nobody watches
  std::shared_ptr<DiskProgress> progress = std::make_shared<DiskProgress>();
  std::string parts{};                   // of the names of the ranks' files; empty: nothing is in pieces
  double began = 0;

  /// The file of one of the ranks; a mark for each of its tensors.
  [[nodiscard]] std::vector<PieceMark> write_part(int rank, int ranks) const {
    std::vector<PieceMark> marks;
    UnfinishedFile unfinished(folder.path() / part_file_name(parts, rank));
    hdf5::File file = hdf5::File::create(unfinished.path(), progress.get());
    store_header(file, kPartFormat, step);
    file.set_attribute("/", "rank", std::int64_t{rank});
    file.set_attribute("/", "ranks", std::int64_t{ranks});
    for (const CheckpointSnapshot::Piece& piece : snapshot.pieces()) {
      const std::string name = "/" + piece.name;
      const PieceMark& mark = marks.emplace_back(
          PieceMark{.begin = piece.begin, .n = piece.values.elements(), .crc = crc32c(piece.values.raw(), piece.values.bytes())});
      file.write(name, piece.values);
      file.set_attribute(name, "begin", mark.begin);
      file.set_attribute(name, "crc32c", mark.crc);
    }
    file.close();
    const hdf5::File stored = hdf5::File::open(unfinished.path());
    for (std::size_t p = 0; p < marks.size(); ++p) {
      const std::string name = "/" + snapshot.pieces()[p].name;
      require_stored(stored.crc32c(name, progress.get()) == marks[p].crc, unfinished.path(), name);
    }
    unfinished.finish();
    return marks;
  }

  /// `reports`: of the files of all ranks, if there are some; all are safe on the disk by now.
  void write_checkpoint(const PartReports* reports, int ranks) const {
    const std::string name = file_name(step);
    UnfinishedFile unfinished(folder.path() / name);
    hdf5::File file = hdf5::File::create(unfinished.path(), progress.get());
    store_header(file, kCheckpointFormat, step);
    store(file, std::string(kConfiguration), configuration);
    for (const auto& entry : snapshot.entries()) store(file, "/" + entry.name, entry.item);
    if (!parts.empty()) {
      require_parts(ranks);
      file.set_attribute("/", "parts", parts);
      file.set_attribute("/", "ranks", std::int64_t{ranks});
      for (std::size_t t = 0; t < snapshot.pieces().size(); ++t) store_pieces(file, snapshot.pieces()[t], reports->marks_of(t), parts);
    }
    file.close(parts.empty() ? std::function<void(DiskFile&)>() : append_seal);
    require_all_stored(unfinished.path());
    unfinished.finish();                 // a link must not reach the disk before its file
    folder.point_to(name, best);
    folder.remove_old(step, keep, parts);
    log.debug(fmt::format("checkpoint {} written in {:.3f} s", (folder.path() / name).string(), Clock::steady().now() - began));
  }

  void require_all_stored(const fs::path& path) const {
    const hdf5::File file = hdf5::File::open(path);
    require_stored(file, std::string(kConfiguration), configuration, progress.get());
    for (const auto& entry : snapshot.entries()) require_stored(file, "/" + entry.name, entry.item, progress.get());
    if (!parts.empty()) require_stored(has_intact_seal(path), path, "/");
  }

  /// Of a checkpoint that is written: what was the best before it may go now.
  void point_to_best() const {
    folder.point_to(file_name(step), true);
    folder.remove_old(step, keep, parts);
  }

  void require_parts(int ranks) const {
    for (int rank = 0; rank < ranks; ++rank) {
      const fs::path file = folder.path() / part_file_name(parts, rank);
      check(fs::exists(file), Code::data_loss,
            fmt::format("{}: rank {} has written it, and rank 0 does not see it; all ranks must share the file system of the checkpoints",
                        file.string(), rank));
    }
  }
};

struct CheckpointWriter::Together {
  explicit Together(Communicator& all) : ranks(all.duplicate()), reports(ranks) {}

  Communicator ranks;
  PartReports reports;
  std::future<std::vector<PieceMark>> writing;       // this rank's file
  std::string error;                                 // of this rank's file
};

CheckpointWriter::CheckpointWriter(fs::path directory, int keep, std::string configuration, Log log, Communicator* ranks,
                                   std::shared_ptr<RankActivity> activity)
    : job_(new Job{.folder = CheckpointFolder(std::move(directory)), .keep = keep, .configuration = std::move(configuration),
                   .log = std::move(log), .snapshot = CheckpointSnapshot(ranks == nullptr || ranks->rank() == 0, ranks != nullptr)}),
      together_(ranks != nullptr ? std::make_unique<Together>(*ranks) : nullptr) {
  if (!activity && ranks != nullptr) activity = ranks->rank_activity();
  job_->activity = std::move(activity);
  check(keep >= 1, Code::invalid_argument, fmt::format("checkpoints to keep: {}, allowed: at least 1", keep));
  if (!together_) {
    job_->folder.prepare();
    return;
  }
  std::string error;
  try {
    if (leads()) job_->folder.prepare();
  } catch (const std::exception& e) {
    error = e.what();
  }
  broadcast(together_->ranks, error, 0);
  check(error.empty(), Code::invalid_argument, error);
}

CheckpointWriter::~CheckpointWriter() {
  // Nothing collective: the others may not be here.
  try {
    if (together_ && together_->writing.valid()) static_cast<void>(together_->writing.get());
    if (publishing_.valid()) publishing_.get();
  } catch (const std::exception& error) {
    job_->log.error(error.what());
  }
}

const fs::path& CheckpointWriter::directory() const noexcept { return job_->folder.path(); }

bool CheckpointWriter::leads() const noexcept { return !together_ || together_->ranks.rank() == 0; }

void CheckpointWriter::save(std::span<Stateful* const> parts, std::int64_t step, bool best) {
  check(step >= 0, Code::internal, fmt::format("checkpoint of step {}", step));
  close();
  job_->snapshot.take(parts);
  job_->step = step;
  job_->best = best;
  job_->began = Clock::steady().now();
  if (together_) agree();
  pending_ = true;
  if (job_->parts.empty()) {
    if (leads()) publish();
    return;
  }
  const int rank = together_->ranks.rank(), ranks = together_->ranks.size();
  together_->reports.expect(job_->snapshot.pieces().size());
  together_->writing = std::async(std::launch::async, [job = job_.get(), rank, ranks] { return job->write_part(rank, ranks); });
}

/// On what is written, and on the names of the files.
void CheckpointWriter::agree() {
  struct Intent {
    std::int64_t step, best;
    std::uint64_t pieces;
    bool operator==(const Intent&) const = default;
  };
  const auto intents = all_gather_value(together_->ranks, Intent{job_->step, job_->best ? 1 : 0, job_->snapshot.pieces_hash()});
  for (std::size_t r = 1; r < intents.size(); ++r) {
    check(intents[r] == intents[0], Code::failed_precondition,
          fmt::format("checkpoint: ranks 0 (step {}) and {} (step {}) save different states", intents[0].step, r, intents[r].step));
  }
  job_->parts.clear();
  if (job_->snapshot.pieces().empty()) return;
  std::string error;
  try {
    if (leads()) job_->parts = job_->folder.unused_parts(job_->step);
  } catch (const std::exception& e) {
    error = e.what();
  }
  broadcast(together_->ranks, error, 0);
  check(error.empty(), Code::data_loss, error);
  broadcast(together_->ranks, job_->parts, 0);
}

void CheckpointWriter::publish() {
  const PartReports* const reports = together_ ? &together_->reports : nullptr;
  const int ranks = together_ ? together_->ranks.size() : 1;
  publishing_ = std::async(std::launch::async, [job = job_.get(), reports, ranks] { job->write_checkpoint(reports, ranks); });
}

/// `done` waits for so many seconds at most.
void CheckpointWriter::wait_for_disk(const std::function<bool(double seconds)>& done) const {
  constexpr double kBetweenLines = 10;
  if (done(0)) return;
  const Job& job = *job_;
  if (job.activity) job.activity->begin_disk_wait(job.progress);
  std::int64_t moves = -1;
  while (!done(kBetweenLines)) {
    const DiskProgress::Now now = job.progress->now();
    const std::string file = (job.folder.path() / now.file).string();
    if (now.moves != moves) job.log.info(fmt::format("writing {}, {:.3g} MB/s", file, now.megabytes_per_second));
    else job.log.warning(fmt::format("writing {}: the disk has taken nothing for {:.0f} s", file, kBetweenLines));
    moves = now.moves;
  }
  if (job.activity) job.activity->end_disk_wait(job.progress.get());
}

namespace {

/// For `wait_for_disk`.
template <class T>
std::function<bool(double)> ready(const std::future<T>& future) {
  return [&future](double seconds) { return future.wait_for(std::chrono::duration<double>(seconds)) == std::future_status::ready; };
}

}  // namespace

void CheckpointWriter::mark_best() {
  if (!leads()) return;
  if (!pending_) return job_->point_to_best();
  if (!publishing_.valid()) {          // the ranks' files are not all there yet
    job_->best = true;
    return;
  }
  publishing_ = std::async(std::launch::async, [job = job_.get(), write = std::move(publishing_)]() mutable {
    write.get();
    job->point_to_best();
  });
}

void CheckpointWriter::keep_all() noexcept { job_->keep = std::numeric_limits<int>::max(); }

/// Waits for this rank's file and tells rank 0.
void CheckpointWriter::report_part() {
  wait_for_disk(ready(together_->writing));
  try {
    const std::vector<PieceMark> marks = together_->writing.get();
    together_->reports.report(&marks);
  } catch (const std::exception& e) {
    together_->error = e.what();
    together_->reports.report(nullptr);
  }
}

void CheckpointWriter::poll() {
  if (!pending_ || job_->parts.empty()) return;
  const auto written = [this] { return together_->writing.wait_for(std::chrono::seconds(0)) == std::future_status::ready; };
  if (together_->writing.valid() && written()) report_part();
  if (publishing_.valid() || !together_->reports.complete()) return;
  if (leads() && together_->reports.all_written()) publish();
}

void CheckpointWriter::close() {
  if (!std::exchange(pending_, false)) return;
  if (together_) return close_together();
  wait_for_disk(ready(publishing_));
  publishing_.get();
}

void CheckpointWriter::close_together() {
  std::string error;
  if (!job_->parts.empty()) {
    if (together_->writing.valid()) report_part();
    const std::vector<std::string> errors = all_gather(together_->ranks, std::exchange(together_->error, {}));
    together_->reports.wait_until_complete();
    const auto failed = std::ranges::find_if(errors, [](const std::string& text) { return !text.empty(); });
    if (failed != errors.end()) error = fmt::format("the checkpoint of step {} failed on rank {}: {}", job_->step, failed - errors.begin(), *failed);
  }
  if (leads()) {
    if (!error.empty()) job_->folder.remove_parts(job_->parts);
    else error = publishing_error();
  }
  broadcast(together_->ranks, error, 0);
  check(error.empty(), Code::data_loss, error);
}

/// Rank 0's: publishes it if that has not begun yet.
std::string CheckpointWriter::publishing_error() {
  try {
    if (!publishing_.valid()) publish();
    wait_for_disk(ready(publishing_));
    publishing_.get();
    return {};
  } catch (const std::exception& e) {
    if (!fs::exists(directory() / file_name(job_->step))) job_->folder.remove_parts(job_->parts);   // nothing needs them
    return e.what();
  }
}

}  // namespace cohort
