#include "comm/mpi.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/comm/environment.hpp"
#include "comm/mpi_transport.hpp"

namespace cohort {

void check(MpiCode code, std::source_location where) {
  if (code.value == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code.value, text.data(), &length);
  fail(Code::internal, "MPI: " + std::string(text.data(), static_cast<std::size_t>(length)), where);
}

bool mpi_running() noexcept {
  int begun = 0, ended = 0;
  MPI_Initialized(&begun);
  MPI_Finalized(&ended);
  return begun != 0 && ended == 0;
}

MpiComm::~MpiComm() {
  if (keep_ || comm_ == MPI_COMM_NULL || std::uncaught_exceptions() > 0 || !mpi_running()) return;
  MPI_Comm_free(&comm_);
}

namespace {

/// In the order of ThreadLevel.
constexpr std::array<std::pair<std::string_view, int>, 4> kThreadLevels{{{"single", MPI_THREAD_SINGLE},
                                                                         {"funneled", MPI_THREAD_FUNNELED},
                                                                         {"serialized", MPI_THREAD_SERIALIZED},
                                                                         {"multiple", MPI_THREAD_MULTIPLE}}};

}  // namespace

std::optional<ThreadLevel> thread_level_named(std::string_view name) {
  for (std::size_t level = 0; level < kThreadLevels.size(); ++level) {
    if (kThreadLevels[level].first == name) return static_cast<ThreadLevel>(level);
  }
  return {};
}

Environment::Environment(ThreadLevel asked) {
  int provided = 0;
  skip_displays();
  check(MpiCode{MPI_Init_thread(nullptr, nullptr, kThreadLevels[static_cast<std::size_t>(asked)].second, &provided)});
  check(MpiCode{MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN)});
  check(MpiCode{MPI_Comm_rank(MPI_COMM_WORLD, &rank_)});
  check(MpiCode{MPI_Comm_size(MPI_COMM_WORLD, &ranks_)});
  MPI_Comm parents = MPI_COMM_NULL;
  check(MpiCode{MPI_Comm_get_parent(&parents)});
  spawned_ = parents != MPI_COMM_NULL;
  if (spawned_) parents_ = merge_transport(parents, true, kLargestMessage);   // at once: they wait for it
}

namespace {

/// By a signal, so that it works wherever the process is stuck.
void end_process_after(unsigned seconds) noexcept {
  std::signal(SIGALRM, SIG_DFL);
  alarm(seconds);
}

// What a handler of signals says and does; there is one such end per process.
std::string last_words;
int last_code = 0;

extern "C" void end_with_words(int) {
  if (write(STDERR_FILENO, last_words.data(), last_words.size()) < 0) _exit(last_code);   // nobody is left to be told
  _exit(last_code);
}

}  // namespace

Environment::~Environment() {
  if (abandoned_ || !mpi_running()) return;
  if (finalize_seconds_ > 0) {
    last_words = fmt::format("[rank {} on {}] warning: MPI_Finalize has not returned for {} s, most likely because another rank has died: "
                             "this one ends without it\n", rank_, processor_name(), finalize_seconds_);
    last_code = finalize_code_;
    std::signal(SIGALRM, end_with_words);
    alarm(finalize_seconds_);
  }
  MPI_Finalize();
  alarm(0);
}

namespace {

/// Labels every rank with the lowest rank of its machine.
NodeMap find_nodes(MPI_Comm comm, int rank, int ranks) {
  MPI_Comm node = MPI_COMM_NULL;
  check(MpiCode{MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node)});
  const MpiComm owner(node);
  int leader = rank;
  check(MpiCode{MPI_Bcast(&leader, 1, MPI_INT, 0, node)});
  std::vector<int> labels(static_cast<std::size_t>(ranks));
  check(MpiCode{MPI_Allgather(&leader, 1, MPI_INT, labels.data(), 1, MPI_INT, comm)});
  return NodeMap(labels);
}

/// Bytes that Open MPI sends over TCP without asking the receiver first; 0 if it has no such limit. Above it a message waits
/// for the receiver's permission, which comes over the same connection, behind all data that the receiver itself is sending:
/// two ranks that send to each other at once take turns then and leave half of a slow line idle.
std::size_t quick_over_tcp() {
  int level = 0;
  if (MPI_T_init_thread(MPI_THREAD_MULTIPLE, &level) != MPI_SUCCESS) return 0;
  std::size_t bytes = 0;
  int index = 0, count = 0;
  MPI_T_cvar_handle handle = MPI_T_CVAR_HANDLE_NULL;
  if (MPI_T_cvar_get_index("btl_tcp_eager_limit", &index) == MPI_SUCCESS &&
      MPI_T_cvar_handle_alloc(index, nullptr, &handle, &count) == MPI_SUCCESS) {
    if (count != 1 || MPI_T_cvar_read(handle, &bytes) != MPI_SUCCESS) bytes = 0;
    MPI_T_cvar_handle_free(&handle);
  }
  MPI_T_finalize();
  constexpr std::size_t kHeaders = 4096;   // the limit counts them; also keeps pieces whole pages
  return bytes > 2 * kHeaders ? bytes - kHeaders : 0;
}

std::vector<MessageLimits> limits_of(const NodeMap& nodes, int rank, std::size_t largest) {
  const std::size_t found = nodes.nodes() > 1 ? quick_over_tcp() : 0, quick = found > 0 ? found : largest;
  std::vector<MessageLimits> limits;
  for (int peer = 0; peer < nodes.ranks(); ++peer) {
    limits.push_back({.largest = largest, .quick = nodes.node_of(peer) == nodes.node_of(rank) ? largest : quick});
  }
  return limits;
}

}  // namespace

std::unique_ptr<Transport> merge_transport(MPI_Comm inter, bool child, std::size_t largest) {
  MPI_Comm merged = MPI_COMM_NULL;
  int size = 0;
  check(MpiCode{MPI_Intercomm_merge(inter, child ? 1 : 0, &merged)});
  MpiComm owner(merged);
  check(MpiCode{MPI_Comm_size(merged, &size)});
  unsigned long long cut = largest;             // as the parents have it, so that both sides cut messages alike
  check(MpiCode{MPI_Bcast(&cut, 1, MPI_UNSIGNED_LONG_LONG, 0, merged)});
  largest = cut;
  const std::size_t found = std::min(quick_over_tcp(), largest);   // processes that were started apart always talk over TCP
  const MessageLimits limits{.largest = largest, .quick = found > 0 ? found : largest};
  return make_mpi_transport(std::move(owner), std::vector(static_cast<std::size_t>(size), limits));
}

Communicator Environment::parents(Context context) {
  check(parents_ != nullptr, Code::failed_precondition, "no rank has started this process, or its parents have been asked for before");
  context.host = processor_name();
  return Communicator::join(std::move(parents_), std::move(context));
}

Communicator Environment::world(Context context, std::size_t largest_message) const {
  MPI_Comm comm = MPI_COMM_NULL;
  check(MpiCode{MPI_Comm_dup(MPI_COMM_WORLD, &comm)});
  MpiComm owner(comm);
  context.rank = rank_;
  context.ranks = ranks_;
  context.host = processor_name();
  NodeMap nodes = find_nodes(comm, rank_, ranks_);
  return {make_mpi_transport(std::move(owner), limits_of(nodes, rank_, largest_message)), std::move(context), std::move(nodes)};
}

std::string Environment::thread_level() {
  int level = MPI_THREAD_SINGLE;
  check(MpiCode{MPI_Query_thread(&level)});
  for (const auto& [name, value] : kThreadLevels) {
    if (value == level) return std::string(name);
  }
  return "level " + std::to_string(level);
}

std::string Environment::library_version() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  check(MpiCode{MPI_Get_library_version(text.data(), &length)});
  const std::string all(text.data(), static_cast<std::size_t>(length));
  return all.substr(0, std::min(all.find(','), all.find('\n')));
}

std::string Environment::processor_name() {
  std::array<char, MPI_MAX_PROCESSOR_NAME> text{};
  int length = 0;
  check(MpiCode{MPI_Get_processor_name(text.data(), &length)});
  return {text.data(), static_cast<std::size_t>(length)};
}

void Environment::skip_displays() noexcept { setenv("HWLOC_COMPONENTS", "-gl", 0); }

void abort_job(int code) noexcept {
  end_process_after(5);   // the launcher, whom MPI_Abort asks, may be in trouble as well
  if (mpi_running()) MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

}  // namespace cohort
