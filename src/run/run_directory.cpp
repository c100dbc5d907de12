#include "run/run_directory.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <optional>
#include <random>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "base/disk_file.hpp"
#include "checkpoint/checkpoint_file.hpp"
#include "checkpoint/checkpoint_folder.hpp"
#include "cohort/base/error.hpp"
#include "cohort/base/stop.hpp"
#include "cohort/checkpoint/checkpoint.hpp"
#include "cohort/comm/control.hpp"
#include "report/output_file.hpp"
#include "run/fact_file.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRecord = "run.toml";

/// Without "./", "//" and a slash at the end. Error invalid_argument.
fs::path normal(const std::string& name) {
  fs::path path = fs::path(name).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  check(path.has_filename() && path != "." && path.filename() != "..", Code::invalid_argument,
        fmt::format("train.directory = \"{}\": name a directory that does not exist yet, such as runs/first", name));
  return path;
}

fs::path numbered(const fs::path& name, int i) { return i == 1 ? name : fs::path(name.string() + "-" + std::to_string(i)); }

/// What the names of directories begin with that are being made.
std::string unnamed_prefix(const fs::path& name) { return "." + name.filename().string() + "."; }

/// The number that a directory of this name has; 0: it is not called so.
int number_of(const std::string& directory, const std::string& name) {
  if (directory == name) return 1;
  if (!directory.starts_with(name + "-")) return 0;
  const char* const begin = directory.data() + name.size() + 1;
  const char* const end = directory.data() + directory.size();
  int number = 0;
  const auto [at, error] = std::from_chars(begin, end, number);
  return error == std::errc{} && at == end && *begin != '0' && number > 1 ? number : 0;
}

/// One of the runs of a name.
struct Known {
  fs::path path;
  double started = 0;                     // seconds since 1970; 0: not known, so it is older than those where it is
  int number = 0;
};

/// What a directory is, if it is of a run of this name.
std::optional<Known> known_run(const fs::path& directory, const fs::path& name) {
  Known run{.path = directory, .number = number_of(directory.filename().string(), name.filename().string())};
  const Facts record = read_facts(directory / kRecord);
  const auto recorded = record.find("name");
  if (recorded == record.end()) return run.number > 0 ? std::optional(run) : std::nullopt;
  if (fs::path(recorded->second).filename() != name.filename()) return {};
  const auto started = record.find("started");
  if (started != record.end()) run.started = std::strtod(started->second.c_str(), nullptr);
  return run;
}

std::vector<Known> newest_first(const fs::path& name) {
  std::vector<Known> runs;
  std::error_code none;
  const fs::path around = name.has_parent_path() ? name.parent_path() : ".";
  for (const auto& entry : fs::directory_iterator(around, none)) {
    if (entry.path().filename().string().starts_with(unnamed_prefix(name)) || !entry.is_directory(none)) continue;
    const fs::path path = name.has_parent_path() ? entry.path() : entry.path().filename();
    if (auto run = known_run(path, name)) runs.push_back(std::move(*run));
  }
  const auto age = [](const Known& run) { return std::pair(-run.started, -run.number); };
  std::ranges::sort(runs, {}, age);
  return runs;
}

bool is_run_of(const fs::path& directory, const fs::path& name) {
  const auto parent = [](const fs::path& path) { return fs::weakly_canonical(fs::absolute(path).parent_path()); };
  return parent(directory) == parent(name) && known_run(directory, name).has_value();
}

/// Will `best` mean something that is there, when a run goes on from this checkpoint?
bool best_stays(const fs::path& checkpoints, const fs::path& from) {
  const std::optional<fs::path> best = checkpoint_of(checkpoints, kBest);
  if (!best) return false;
  std::error_code none;
  const auto step = step_of(fs::canonical(from, none)), step_of_best = step_of(*best);
  return !step || !step_of_best || *step_of_best <= *step;
}

RunDirectory going_on(fs::path run, fs::path from, const Context& context) {
  auto lock = std::make_shared<RunLock>(run, context.job, context.log);
  const bool best = best_stays(run / "checkpoints", from);
  return {.path = std::move(run), .resume_from = std::move(from), .has_best = best, .lock = std::move(lock)};
}

/// A directory that has its record and is locked before it gets its name, so that nobody finds it without. Nothing where
/// others have taken the name.
std::optional<RunDirectory> made(const fs::path& path, const fs::path& name, const Context& context) {
  if (fs::exists(path) && !fs::is_empty(path)) return {};
  const fs::path around = path.has_parent_path() ? path.parent_path() : ".";
  std::error_code error;
  fs::create_directories(around, error);
  std::random_device random;
  const fs::path unnamed = around / fmt::format("{}{:08x}{:08x}", unnamed_prefix(name), random(), random());
  if (!error) fs::create_directory(unnamed, error);
  check(!error, Code::invalid_argument,
        fmt::format("train.directory: cannot make a directory in {}: {}", around.string(), error.message()));
  try {
    const Facts record{{"name", name.string()}, {"started", fmt::format("{:.3f}", system_wall_time())}};
    replace_file(unnamed / kRecord, facts_text("a run, and the name that it was started under", record));
    auto lock = std::make_shared<RunLock>(unnamed, context.job, context.log);
    if (::rename(unnamed.c_str(), path.c_str()) == 0) {
      lock->moved_to(path);
      return RunDirectory{.path = path, .fresh = true, .lock = std::move(lock)};
    }
    const int reason = errno;
    check(reason == EEXIST || reason == ENOTEMPTY || reason == ENOTDIR, Code::invalid_argument,
          fmt::format("train.directory: cannot make {}: {}", path.string(), std::strerror(reason)));
  } catch (...) {   // it goes on up, when nothing is left behind
    fs::remove_all(unnamed, error);
    throw;
  }
  fs::remove_all(unnamed, error);
  return {};
}

RunDirectory fresh(const fs::path& name, const Context& context) {
  for (int i = 1;; ++i) {
    if (auto directory = made(numbered(name, i), name, context)) return std::move(*directory);
  }
}

/// The last run that has a checkpoint. With `alone` none that is later may be at work.
std::optional<std::pair<fs::path, fs::path>> last_run(const std::vector<Known>& runs, bool alone, const Log& log) {
  for (const Known& run : runs) {
    const fs::path checkpoints = run.path / "checkpoints";
    const std::string job = alone ? job_at_work(run.path) : "";
    check(job.empty(), Code::failed_precondition,
          fmt::format("--resume auto: {}, the last run of this name, is in use by {}; end that job first", run.path.string(),
                      job));
    if (auto checkpoint = find_latest(checkpoints, log)) return std::pair(run.path, std::move(*checkpoint));
    check(list_checkpoints(checkpoints).empty(), Code::data_loss,
          fmt::format("{} has files of checkpoints, but none of them is intact: cohort inspect FILE says what is wrong with one; "
                      "to begin anew, move that directory away or choose another train.directory", checkpoints.string()));
  }
  return {};
}

/// The first start of a job that may be requeued makes a directory; if two do so at once, one of them finds the other's.
RunDirectory automatic(const fs::path& name, const Context& context) {
  for (;;) {
    const std::vector<Known> runs = newest_first(name);
    if (auto last = last_run(runs, true, context.log)) return going_on(std::move(last->first), std::move(last->second), context);
    int i = 1;
    while (fs::exists(numbered(name, i)) && !fs::is_empty(numbered(name, i))) ++i;
    if (auto directory = made(numbered(name, i), name, context)) return std::move(*directory);
  }
}

/// The checkpoint that a path given by the user means: itself, or a run's latest.
fs::path checkpoint_at(const std::string& given, const Log& log) {
  const fs::path path(given);
  if (fs::is_regular_file(path)) return path;
  for (const fs::path& folder : {path / "checkpoints", path}) {
    if (auto latest = find_latest(folder, log)) return std::move(*latest);
  }
  fail(Code::not_found, "--resume " + given + ": neither a checkpoint nor a run's directory with one in checkpoints/latest");
}

/// The run's directory around a checkpoint; empty: it lies elsewhere.
fs::path run_around(const fs::path& checkpoint) {
  const fs::path folder = fs::absolute(checkpoint).lexically_normal().parent_path();
  return folder.filename() == "checkpoints" ? folder.parent_path() : fs::path();
}

RunDirectory named_checkpoint(const RunName& name, const std::string& given, const Context& context) {
  fs::path checkpoint = checkpoint_at(given, context.log);
  const fs::path run = run_around(checkpoint);
  if (!run.empty() && (!name.given || is_run_of(run, normal(name.name)))) return going_on(run, std::move(checkpoint), context);
  RunDirectory directory = fresh(normal(name.name), context);
  directory.resume_from = std::move(checkpoint);
  return directory;
}

/// Decided by rank 0 alone (the others may not even see the same file system) and told to all, errors too.
RunDirectory decide_on_root(Communicator& communicator, const std::function<RunDirectory()>& decide) {
  RunDirectory result;
  std::string error;
  auto code = static_cast<std::int64_t>(Code::internal);
  if (communicator.rank() == 0) {
    try {
      result = decide();
    } catch (const Error& e) {
      error = e.what();
      code = static_cast<std::int64_t>(e.code());
    } catch (const std::exception& e) {
      error = e.what();
    }
  }
  broadcast(communicator, error, 0);
  broadcast_values(communicator, std::span(&code, 1), 0);
  if (!error.empty() && static_cast<Code>(code) == Code::cancelled) throw StopRequested(error);
  if (!error.empty()) fail(static_cast<Code>(code), error);
  std::string path = result.path.string(), from = result.resume_from.string();
  std::array<std::int64_t, 2> flags{result.fresh ? 1 : 0, result.has_best ? 1 : 0};
  broadcast(communicator, path, 0);
  broadcast(communicator, from, 0);
  broadcast_values(communicator, std::span<std::int64_t>(flags), 0);
  return {.path = path, .resume_from = from, .fresh = flags[0] != 0, .has_best = flags[1] != 0,
          .lock = std::move(result.lock)};
}

}  // namespace

RunDirectory choose_directory(Communicator& communicator, const RunName& name, const std::string& resume) {
  const Context& context = communicator.context();
  return decide_on_root(communicator, [&] {
    if (resume.empty()) return fresh(normal(name.name), context);
    return resume == "auto" ? automatic(normal(name.name), context) : named_checkpoint(name, resume, context);
  });
}

RunDirectory find_directory(Communicator& communicator, const std::string& name, const std::string& which) {
  const Log& log = communicator.context().log;
  return decide_on_root(communicator, [&] {
    if (!which.empty() && which != "auto") {
      fs::path checkpoint = checkpoint_at(which, log);
      return RunDirectory{.path = run_around(checkpoint), .resume_from = std::move(checkpoint)};
    }
    auto last = last_run(newest_first(normal(name)), false, log);
    check(last.has_value(), Code::not_found, "no run named " + name + " has a checkpoint: name one with --resume");
    return RunDirectory{.path = std::move(last->first), .resume_from = std::move(last->second)};
  });
}

}  // namespace cohort
