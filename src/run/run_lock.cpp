#include "run/run_lock.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <stop_token>
#include <utility>

#include "cohort/base/error.hpp"
#include "cohort/base/stop.hpp"
#include "run/fact_file.hpp"

namespace cohort {
namespace {

namespace fs = std::filesystem;

constexpr double kSilence = 30;                       // seconds without a sign of life
constexpr std::chrono::seconds kBeat(2), kLook(1);
constexpr double kTakingOver = 10;                    // seconds: longer than anybody takes for it

constexpr const char* kSpace = "/proc/self/ns/pid";   // processes have the same numbers only in the same one

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

std::string link_text(const char* link) {
  std::error_code none;
  return fs::read_symlink(link, none).string();
}

/// When a process was started, in the system's ticks, so that another one with the same number is not taken for it; empty:
/// it is not there.
std::string start_of(const std::string& process) {
  std::ifstream in("/proc/" + process + "/stat");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  std::size_t at = text.rfind(')');                   // behind the name, which may be anything
  if (at == std::string::npos) return {};
  constexpr int kStartAfterName = 20;                 // field 22 of proc(5), the name is the second
  for (int field = 0; field < kStartAfterName && at != std::string::npos; ++field) at = text.find(' ', at + 1);
  return at == std::string::npos ? "" : text.substr(at + 1, text.find(' ', at + 1) - at - 1);
}

std::string time_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 64> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts);
  return text.data();
}

Facts facts_of_this(const std::string& job, const std::string& token) {
  const std::string process = std::to_string(getpid());
  return {{"host", host_name()}, {"space", link_text(kSpace)},   {"process", process}, {"started", start_of(process)},
          {"since", time_text()}, {"job", job}, {"token", token}};
}

std::string new_token() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

/// Seconds on the file system's clock; nothing if there is no such file. Opened, since a network file system asks its server
/// then.
std::optional<double> changed(const fs::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return {};
  struct stat facts {};
  const bool known = ::fstat(descriptor, &facts) == 0;
  ::close(descriptor);
  if (!known) return {};
  return static_cast<double>(facts.st_mtim.tv_sec) + 1e-9 * static_cast<double>(facts.st_mtim.tv_nsec);
}

/// A file beside the lock that becomes the lock, or tells the time there.
class Candidate {
 public:
  Candidate(const fs::path& lock, const std::string& job, const std::string& token) : path_(lock.parent_path() / (".lock-" + token)) {
    std::ofstream out(path_, std::ios::binary);
    out << facts_text("who writes here, as long as this file is touched every few seconds", facts_of_this(job, token));
    out.close();
    check(!out.fail(), Code::data_loss,
          path_.string() + ": cannot write it, to say who writes in this directory: " + std::strerror(errno));
  }
  Candidate(const Candidate&) = delete;
  Candidate& operator=(const Candidate&) = delete;
  ~Candidate() { ::unlink(path_.c_str()); }

  /// True if no file had this name. Whether a link was made shows in the number of names even where the answer got lost.
  [[nodiscard]] bool becomes(const fs::path& name) const {
    struct stat facts {};
    if (::link(path_.c_str(), name.c_str()) == 0) return true;
    const int reason = errno;
    if (::stat(path_.c_str(), &facts) == 0 && facts.st_nlink == 2) return true;
    if (reason == EEXIST) return false;
    return becomes_without_links(name);
  }
  void replaces(const fs::path& name) const {
    const bool done = ::rename(path_.c_str(), name.c_str()) == 0;
    check(done, Code::data_loss, name.string() + ": cannot take it over: " + std::strerror(errno));
  }
  [[nodiscard]] double now() const {
    ::utimensat(AT_FDCWD, path_.c_str(), nullptr, 0);
    return changed(path_).value_or(0);
  }

 private:
  [[nodiscard]] bool becomes_without_links(const fs::path& name) const {
    const int descriptor = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (descriptor < 0 && errno == EEXIST) return false;
    check(descriptor >= 0, Code::data_loss, name.string() + ": cannot create it: " + std::strerror(errno));
    ::close(descriptor);
    replaces(name);
    return true;
  }
  fs::path path_;
};

/// Who has a lock.
class Holder {
 public:
  explicit Holder(const fs::path& lock) : lock_(lock), facts_(read_facts(lock)) {}

  [[nodiscard]] std::string token() const { return fact("token"); }
  [[nodiscard]] std::string text() const {
    const std::string job = fact("job").empty() ? "" : " (" + fact("job") + ")";
    return fmt::format("process {} on {}{}, since {}", fact("process"), fact("host"), job, fact("since"));
  }
  /// Nothing: it cannot be seen from here.
  [[nodiscard]] std::optional<bool> lives() const {
    if (fact("host") != host_name() || fact("space") != link_text(kSpace) || fact("space").empty()) return {};
    const std::string start = start_of(fact("process"));
    return !start.empty() && start == fact("started");
  }

 private:
  [[nodiscard]] std::string fact(const std::string& name) const {
    const auto found = facts_.find(name);
    return found == facts_.end() ? "" : found->second;
  }
  fs::path lock_;
  Facts facts_;
};

/// Does somebody who has this lock live? Waits for a sign of life, or for so long a silence that it means death. `age` is
/// then that of the last sign.
bool holder_lives(const fs::path& lock, const Holder& holder, const Candidate& clock, double& age) {
  const std::optional<double> first = changed(lock);
  age = first ? std::max(clock.now() - *first, 0.) : 0;
  if (const std::optional<bool> known = holder.lives()) return *known;
  for (std::optional<double> last = first; last; last = changed(lock)) {
    age = clock.now() - *last;
    if (*last != *first) return true;
    if (age >= kSilence) return false;
    throw_if_stopped("waiting for", lock.string());
    std::this_thread::sleep_for(kLook);
  }
  return false;                                        // it has gone
}

[[noreturn]] void refuse(const fs::path& lock, const Holder& holder, double age) {
  fail(Code::failed_precondition,
       fmt::format("{} is in use by {}, last sign of life {:.0f} s ago: only one job at a time writes in a run's directory; end "
                   "that one, or give this one another train.directory", lock.parent_path().string(), holder.text(), age));
}

/// Makes the lock of a dead job this one's. False if somebody else was faster. Who takes over is alone with it for that
/// moment.
bool take_over(const fs::path& lock, const Holder& dead, const Candidate& mine, const std::string& token) {
  const fs::path guard = lock.parent_path() / "lock.taking-over";
  const Candidate guarding(lock, {}, token + "-guard");
  if (!guarding.becomes(guard)) {
    const double now = mine.now();
    if (now - changed(guard).value_or(now) > kTakingOver) ::unlink(guard.c_str());      // whoever made it was killed
    return false;
  }
  const bool still = Holder(lock).token() == dead.token() && changed(lock);
  if (still) mine.replaces(lock);
  ::unlink(guard.c_str());
  return still;
}

/// Which file it is, and when it was changed last.
std::array<std::int64_t, 4> version_of(const struct stat& facts) {
  return {static_cast<std::int64_t>(facts.st_dev), static_cast<std::int64_t>(facts.st_ino), facts.st_mtim.tv_sec,
          facts.st_mtim.tv_nsec};
}

}  // namespace

RunLock::RunLock(const fs::path& directory, const std::string& job, const Log& log) : file_(directory / "lock"), token_(new_token()) {
  const Candidate mine(file_, job, token_);
  while (!mine.becomes(file_)) {
    const Holder holder(file_);
    double age = 0;
    if (holder_lives(file_, holder, mine, age)) refuse(file_, holder, age);
    if (!changed(file_)) continue;
    if (take_over(file_, holder, mine, token_)) {
      log.warning(fmt::format("{} was in use by {}, which is dead (last sign of life {:.0f} s ago): taken over",
                              directory.string(), holder.text(), age));
      break;
    }
    throw_if_stopped("waiting for", file_.string());
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  renew();
  thread_ = std::jthread([this](const std::stop_token& stop) { keep_alive(stop); });
}

RunLock::~RunLock() {
  thread_ = {};
  const std::lock_guard lock(mutex_);
  if (Holder(file_).token() == token_) ::unlink(file_.c_str());
}

void RunLock::moved_to(const fs::path& directory) {
  const std::lock_guard lock(mutex_);
  file_ = directory / "lock";
}

void RunLock::check() const {
  if (!lost_.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(mutex_);
  fail(Code::failed_precondition,
       fmt::format("{} has been taken over by {}, to which this job seemed dead: it ends here, so that only one writes there",
                   file_.parent_path().string(), Holder(file_).text()));
}

/// What is not there, or cannot be read just now, nobody has taken over. The file is read again only where somebody else has
/// changed it: this happens beside training, in whose steps nothing allocates.
void RunLock::renew() {
  const std::lock_guard lock(mutex_);
  struct stat facts {};
  if (::stat(file_.c_str(), &facts) != 0) return;
  if (version_of(facts) != mine_) {
    const std::string token = Holder(file_).token();
    if (!token.empty() && token != token_) lost_ = true;
    if (token != token_) return;
  }
  ::utimensat(AT_FDCWD, file_.c_str(), nullptr, 0);
  if (::stat(file_.c_str(), &facts) == 0) mine_ = version_of(facts);
}

void RunLock::keep_alive(const std::stop_token& stop) {
  std::mutex mutex;
  std::unique_lock lock(mutex);
  while (!asleep_.wait_for(lock, stop, kBeat, [&] { return stop.stop_requested(); })) renew();
}

std::string job_at_work(const fs::path& directory) {
  const fs::path lock = directory / "lock";
  if (!changed(lock)) return {};
  const Holder holder(lock);
  const std::string token = new_token();
  const Candidate clock(lock, {}, token);
  double age = 0;
  return holder_lives(lock, holder, clock, age) ? holder.text() : "";
}

}  // namespace cohort
