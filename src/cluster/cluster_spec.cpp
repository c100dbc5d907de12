#include "cohort/cluster/cluster_spec.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "cohort/base/error.hpp"
#include "cohort/base/registry.hpp"
#include "cohort/comm/codec.hpp"

namespace cohort {

ClusterSpec::ClusterSpec(const std::map<std::string, std::vector<int>>& jobs) {
  for (const auto& [job, ranks] : jobs) {
    Tasks& tasks = jobs_[job];
    for (std::size_t i = 0; i < ranks.size(); ++i) tasks[static_cast<int>(i)] = ranks[i];
  }
}

const ClusterSpec::Tasks& ClusterSpec::tasks(const std::string& job) const {
  const auto found = jobs_.find(job);
  if (found == jobs_.end()) fail(Code::not_found, fmt::format("No such job in cluster: '{}'", job));
  return found->second;
}

std::vector<std::string> ClusterSpec::jobs() const {
  std::vector<std::string> names;
  for (const auto& [job, tasks] : jobs_) names.push_back(job);
  return names;
}

int ClusterSpec::num_tasks(const std::string& job) const { return static_cast<int>(tasks(job).size()); }

std::vector<int> ClusterSpec::task_indices(const std::string& job) const {
  std::vector<int> indices;
  for (const auto& [index, rank] : tasks(job)) indices.push_back(index);
  return indices;
}

int ClusterSpec::rank(const std::string& job, int task) const {
  const Tasks& all = tasks(job);
  const auto found = all.find(task);
  if (found == all.end()) fail(Code::not_found, fmt::format("No task with index {} in job '{}'", task, job));
  return found->second;
}

std::vector<std::optional<int>> ClusterSpec::ranks(const std::string& job) const {
  const Tasks& all = tasks(job);
  std::vector<std::optional<int>> result(all.empty() ? 0 : static_cast<std::size_t>(all.rbegin()->first) + 1);
  for (const auto& [index, rank] : all) result[static_cast<std::size_t>(index)] = rank;
  return result;
}

std::optional<int> ClusterSpec::task_of(const std::string& job, int rank) const {
  const Tasks& all = tasks(job);
  const auto found = std::ranges::find(all, rank, &Tasks::value_type::second);
  return found == all.end() ? std::nullopt : std::optional(found->first);
}

std::string ClusterSpec::text() const {
  std::string text;
  for (const auto& [job, tasks] : jobs_) {
    text += fmt::format("{}{}:", text.empty() ? "" : "; ", job);
    for (const auto& [index, rank] : tasks) text += fmt::format(" {}", rank);
  }
  return text;
}

ClusterOptions::ClusterOptions(Section& section) {
  section.bind("ps", ps, "parameter tasks, which do nothing else; 0: every rank is a worker and keeps a share of the parameters", at_least(0));
  section.bind("worker", worker, "workers, after the parameter tasks in the order of ranks; 0: all other ranks", at_least(0));
  section.bind("blocks", blocks, "how parameters are dealt out to parameter tasks: equal blocks of the flat space, one after the other in order of "
               "creation, or each to the task with the fewest bytes", one_of({"flat", "round_robin", "greedy"}));
  section.bind("print_blocks", print_blocks, "print which task keeps which parameters");
  section.bind("survive", survive, "go on without workers that die or fall silent; auto: with dedicated parameter tasks",
               one_of({"auto", "on", "off"}));
  section.bind("heartbeat_timeout", heartbeat_timeout, "seconds of silence after which a worker counts as lost", above(0, 1e8));
  section.bind("replace", replace, "start so many new processes, at most, for workers that are lost; under mpirun only, which needs a free slot or "
               "--oversubscribe", at_least(0));
  section.bind("replace_timeout", replace_timeout, "seconds that a new process may take to come to work; then it is given up, and the others go on",
               between(0.1, 100));
  section.bind("pull_codec", pull_codec, "how parameters travel to the workers; parameter tasks keep them in float32",
               one_of(Registry<CodecType>::instance().names()));
  section.bind("piece_mib", piece_mib, "longest message of gradients or parameters (MiB)", above(0, 1024));
}

ClusterSpec ClusterOptions::spec(int ranks) const {
  check(ps > 0 || survive != "on", Code::invalid_argument,
        "cluster.survive = \"on\" needs dedicated parameter tasks (cluster.ps at least 1): where every rank keeps a share of the parameters, a dead "
        "worker takes it along");
  check(replace == 0 || survives(), Code::invalid_argument,
        "cluster.replace: workers can be replaced only where the job survives their loss: with dedicated parameter tasks (cluster.ps at least 1), and "
        "without cluster.survive = \"off\"");
  std::vector<int> tasks, workers;
  for (int rank = 0; rank < ranks; ++rank) {
    if (ps == 0 || rank < ps) tasks.push_back(rank);
    if (ps == 0 || rank >= ps) workers.push_back(rank);
  }
  const int wanted = worker > 0 ? worker : static_cast<int>(workers.size());
  if (static_cast<int>(workers.size()) != wanted || workers.empty()) {
    fail(Code::invalid_argument, fmt::format("cluster asks for {} parameter tasks and {} workers, but the job has {} ranks: start it with {}", ps,
                                             worker > 0 ? std::to_string(worker) : "some", ranks, std::int64_t{ps} + std::max(worker, 1)));
  }
  return ClusterSpec(std::map<std::string, std::vector<int>>{{"ps", tasks}, {"worker", workers}});
}

}  // namespace cohort
