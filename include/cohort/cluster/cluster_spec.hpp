#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cohort/base/options.hpp"

namespace cohort {

/// Which task of which job is which rank: {"ps": {0: 0, 1: 1}, "worker": {0: 2, 1: 3}}. A job's tasks may have gaps. One rank
/// may stand for tasks of several jobs. Behaves as TensorFlow's ClusterSpec, with ranks for addresses.
class ClusterSpec {
 public:
  using Tasks = std::map<int, int>;                       ///< task index → rank

  ClusterSpec() = default;
  explicit ClusterSpec(std::map<std::string, Tasks> jobs) : jobs_(std::move(jobs)) {}
  /// The list form: task i of a job is its i-th rank.
  explicit ClusterSpec(const std::map<std::string, std::vector<int>>& jobs);

  [[nodiscard]] bool empty() const noexcept { return jobs_.empty(); }
  [[nodiscard]] std::vector<std::string> jobs() const;                                 ///< by name
  /// Error not_found, each: "No such job in cluster: 'x'", "No task with index 2 in job 'x'".
  [[nodiscard]] int num_tasks(const std::string& job) const;
  [[nodiscard]] std::vector<int> task_indices(const std::string& job) const;           ///< ascending
  [[nodiscard]] int rank(const std::string& job, int task) const;
  [[nodiscard]] std::vector<std::optional<int>> ranks(const std::string& job) const;   ///< by task, with holes where there is none
  /// The task of a job that a rank is, if any.
  [[nodiscard]] std::optional<int> task_of(const std::string& job, int rank) const;
  /// "ps: 0 1; worker: 2 3 4"
  [[nodiscard]] std::string text() const;
  friend bool operator==(const ClusterSpec&, const ClusterSpec&) = default;

 private:
  [[nodiscard]] const Tasks& tasks(const std::string& job) const;
  std::map<std::string, Tasks> jobs_;
};

/// The [cluster] section: `cluster = {ps = 2, worker = 6}`. Without it every rank is a worker and owns a block.
struct ClusterOptions {
  int ps = 0;                               ///< parameter tasks; 0: colocated
  int worker = 0;                           ///< 0: all other ranks
  std::string blocks = "flat";              ///< how parameters are dealt out to tasks: "round_robin", "greedy" by bytes, "flat" equal blocks
  bool print_blocks = false;
  std::string survive = "auto";             ///< lost workers; "auto": with dedicated parameter tasks
  double heartbeat_timeout = 10;            ///< seconds of silence after which a worker counts as lost
  std::int64_t replace = 0;                 ///< so many lost workers, at most, by processes that the job starts
  double replace_timeout = 60;              ///< seconds that a new process may take to come to work
  std::string pull_codec = "fp32";
  double piece_mib = 1;                     ///< longest message of gradients or values

  ClusterOptions() = default;
  explicit ClusterOptions(Section& section);

  [[nodiscard]] bool dedicated() const noexcept { return ps > 0; }
  [[nodiscard]] bool survives() const noexcept { return survive == "on" || (survive == "auto" && dedicated()); }
  /// Parameter tasks are the first ranks, workers follow. Error invalid_argument if there are not as many ranks as tasks, or
  /// lost workers are to be survived, or replaced, without dedicated parameter tasks.
  [[nodiscard]] ClusterSpec spec(int ranks) const;
};

}  // namespace cohort
