#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cohort/base/log.hpp"
#include "cohort/comm/communicator.hpp"
#include "cohort/params/state.hpp"
#include "cohort/tensor/dtype.hpp"
#include "cohort/tensor/shape.hpp"

namespace cohort {

/// A checkpoint is one HDF5 file, "step-0000001200.h5", that h5dump and h5py read: every tensor, value and text of the state
/// is an uncompressed data set under its logical name ("/parameters/hidden/weight"), with attributes `kind` ("tensor",
/// "value", "text") and `crc32c` (CRC-32C of its bytes as stored). The root group has the attributes `format` ("cohort
/// checkpoint"), `version` and `step`; the data set "/configuration" is the resolved configuration. HDF5's own checksums
/// cover all the rest. Nothing in it depends on the number of ranks.
///
/// Of tensors that the ranks keep in pieces, each rank writes its pieces into a file of its own, "step-0000001200.rank-3.h5":
/// data sets with one dimension under the same names, with attributes `begin` and `crc32c`. The checkpoint is then an index
/// that shows those tensors whole, as virtual data sets, and everything else as before; its root attributes `parts` and `ranks`
/// say which files it needs, and the CRC-32C of all its bytes lies behind what HDF5 knows of it. Copy and move them together.

/// Writes checkpoints into a directory, in the background. `latest` and `best` there are links to a complete checkpoint at any
/// time, whenever the processes may be killed or the disk fails: a file is written under another name, flushed to the disk, read
/// back, and then renamed; an index after the files of all ranks; older ones go last. Where the file system has no links, `latest` and
/// `best` are text files with the file's name. One writer per directory; one thread at a time.
class CheckpointWriter {
 public:
  /// Creates the directory and removes what an interrupted writer left there. After each save the newest `keep` (at least 1)
  /// checkpoints stay, and the best one. Error invalid_argument.
  ///
  /// Without `ranks`, one rank has the whole state. With `ranks`, which must outlive the writer, the state may be in pieces:
  /// the constructor, `save` and `close` are collective, and what is not in pieces is rank 0's. The directory must be on a file
  /// system that all ranks share.
  ///
  /// While `save` or `close` waits for the disk, `activity` says so (without it, that of `ranks` does), so that nobody takes the
  /// wait for a hang, and `log` is told now and then which file it is and how fast it grows.
  CheckpointWriter(std::filesystem::path directory, int keep, std::string configuration, Log log = Log(), Communicator* ranks = nullptr,
                   std::shared_ptr<RankActivity> activity = nullptr);
  ~CheckpointWriter();                               ///< finishes this rank's write; logs its error
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  /// Copies the state into memory that is kept for the next time, and returns while a thread writes it. Waits first for the
  /// previous write, and throws its error, on all ranks the same. `best`: this is the best state so far.
  void save(std::span<Stateful* const> parts, std::int64_t step, bool best = false);
  /// The state of the last save has turned out to be the best so far: `best` will mean it once it is written. Never blocks;
  /// with `ranks`, rank 0's call is enough.
  void mark_best();
  /// Never blocks. To be called now and then with `ranks`: once the files of all ranks are safe, the checkpoint is published.
  /// It is by `save` or `close` at the latest.
  void poll();
  /// From here on no save removes a checkpoint. With `ranks`, rank 0's call is enough. After `close`.
  void keep_all() noexcept;
  /// Never blocks. Will this rank finish the last save, whatever becomes of the others? Not while it waits for their files.
  [[nodiscard]] bool needs_nobody() const noexcept { return !pending_ || publishing_.valid(); }
  /// Waits for the write and throws its error.
  void close();

  [[nodiscard]] const std::filesystem::path& directory() const noexcept;

 private:
  struct Job;                                        // what is being written
  struct Together;                                   // what all ranks share
  [[nodiscard]] bool leads() const noexcept;
  void agree();
  void report_part();
  void publish();
  void close_together();
  [[nodiscard]] std::string publishing_error();
  void wait_for_disk(const std::function<bool(double seconds)>& done) const;

  std::unique_ptr<Job> job_;                         // the threads' while they run
  std::unique_ptr<Together> together_;               // null: one rank has the whole state
  bool pending_ = false;
  std::future<void> publishing_;                     // the checkpoint, where it is one rank's
};

/// Of a file whose state does not fit: `refuse` data sets that nobody asked for, or `ignore` them (to evaluate, parameters
/// are enough).
enum class Extra { refuse, ignore };

struct CheckpointHeader {
  std::filesystem::path path;                        ///< the file, links resolved
  std::int64_t step = 0;
  std::string configuration;
  std::int64_t files = 1;                            ///< it is spread over, the index included
};

/// Loads a file, or the `latest` of a directory (where that is missing or dangles: the newest intact one, with a warning), into the
/// parts: all of it, or nothing and an Error: `not_found`;
/// `data_loss` for a damaged file, with the newest intact checkpoint beside it, if there is one; `failed_precondition` with
/// the names that are missing, extra or of another shape or type. Takes memory for a second copy of the state and one piece or
/// tensor of the file: of what a part shows as pieces, no more than those are kept. Whether the file is in pieces does not
/// matter. Each part's `load` is called twice, and only the second time anything is written to it. Any rank may call it.
CheckpointHeader load_checkpoint(const std::filesystem::path& path, std::span<Stateful* const> parts,
                                 Extra extra = Extra::refuse);

/// The files of a directory's checkpoints, largest step first.
[[nodiscard]] std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& directory);

/// One data set of a checkpoint.
struct CheckpointEntry {
  std::string name, kind;
  DType dtype = DType::float32;
  Shape shape;
  bool intact = false;                               ///< its bytes have their CRC
  std::int64_t not_finite = 0;                       ///< elements; the statistics are over the others
  double least = 0, most = 0, mean = 0, norm = 0;
  std::string text;                                  ///< of a value or a text
};

struct CheckpointDescription {
  CheckpointHeader header;
  std::vector<CheckpointEntry> entries;
  [[nodiscard]] bool intact() const;
  [[nodiscard]] std::string text() const;            ///< for people: a table, then the configuration
};

/// What is in a file, or in the `latest` of a directory; damaged data sets are marked. Errors as above where the file itself
/// cannot be read.
[[nodiscard]] CheckpointDescription describe_checkpoint(const std::filesystem::path& path);

}  // namespace cohort
