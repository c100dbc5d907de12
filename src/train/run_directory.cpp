#include "train/run_directory.hpp"

#include <functional>

#include "cohort/base/error.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

fs::path numbered(const std::string& name, int i) { return i == 1 ? fs::path(name) : fs::path(name + "-" + std::to_string(i)); }

bool has_checkpoint(const fs::path& run) { return fs::exists(run / "checkpoints" / "latest"); }

/// The checkpoint that a path given by the user means: itself, or a run's latest.
fs::path checkpoint_at(const std::string& given) {
  const fs::path path(given);
  if (fs::is_regular_file(path)) return path;
  if (has_checkpoint(path)) return path / "checkpoints" / "latest";
  if (fs::exists(path / "latest")) return path / "latest";
  fail(Code::not_found, "--resume " + given + ": neither a checkpoint nor a run's directory with one in checkpoints/latest");
}

RunDirectory fresh(const std::string& name) {
  int i = 1;
  while (fs::exists(numbered(name, i))) ++i;
  fs::create_directories(numbered(name, i) / "checkpoints");
  return {numbered(name, i), {}};
}

/// The last of the runs of that name that has a checkpoint; an empty path if there is none.
RunDirectory last_run(const std::string& name) {
  RunDirectory last;
  for (int i = 1; fs::exists(numbered(name, i)); ++i) {
    if (has_checkpoint(numbered(name, i))) last = {numbered(name, i), numbered(name, i) / "checkpoints" / "latest"};
  }
  return last;
}

RunDirectory around(const std::string& given) {
  const fs::path checkpoint = checkpoint_at(given);
  const fs::path folder = fs::absolute(checkpoint).parent_path();
  return {folder.filename() == "checkpoints" ? folder.parent_path() : folder, checkpoint};
}

/// Decided by rank 0 alone (the others may not even see the same file system) and told to all, errors too.
RunDirectory decide_on_root(Communicator& communicator, const std::function<RunDirectory()>& decide) {
  RunDirectory result;
  std::string error;
  if (communicator.rank() == 0) {
    try {
      result = decide();
    } catch (const std::exception& e) {
      error = e.what();
    }
  }
  communicator.broadcast(error, 0);
  if (!error.empty()) fail(Code::not_found, error);
  std::string path = result.path.string(), from = result.resume_from.string();
  communicator.broadcast(path, 0);
  communicator.broadcast(from, 0);
  return {path, from};
}

}  // namespace

RunDirectory choose_directory(Communicator& communicator, const std::string& name, const std::string& resume) {
  return decide_on_root(communicator, [&] {
    if (resume.empty()) return fresh(name);
    if (resume != "auto") return around(resume);
    const RunDirectory last = last_run(name);
    return last.path.empty() ? fresh(name) : last;    // nothing to go on with: the first start of a job that may be requeued
  });
}

RunDirectory find_directory(Communicator& communicator, const std::string& name, const std::string& which) {
  return decide_on_root(communicator, [&] {
    if (!which.empty() && which != "auto") return around(which);
    RunDirectory last = last_run(name);
    check(!last.path.empty(), Code::not_found, "no run named " + name + " has a checkpoint: name one with --resume");
    return last;
  });
}

}  // namespace cohort
