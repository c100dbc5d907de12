#include "comm/mpi_transport.hpp"

#include <fmt/core.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cohort/base/error.hpp"
#include "cohort/comm/environment.hpp"
#include "comm/progress_gate.hpp"

namespace cohort {
namespace {

int to_int(std::size_t count) { return static_cast<int>(count); }   // counts are cut to fit before

/// A window of MPI_Win_allocate_shared. MPI_Win_free waits for the other ranks, so it must never run while a rank unwinds
/// from an error that the others do not share: the window then stays until the process ends.
class MpiSharedMemory final : public SharedMemory {
 public:
  MpiSharedMemory(MPI_Comm comm, std::size_t bytes) {
    int size = 0;
    check(MpiCode{MPI_Comm_size(comm, &size)});
    const std::size_t padded = (bytes + kPage - 1) / kPage * kPage + kPage;   // room to begin each part on a page
    check_space(comm, padded);
    void* base = nullptr;
    check(MpiCode{MPI_Win_allocate_shared(static_cast<MPI_Aint>(padded), 1, MPI_INFO_NULL, comm, &base, &window_)});
    check(MpiCode{MPI_Win_lock_all(MPI_MODE_NOCHECK, window_)});   // plain loads and stores are allowed from here on
    MPI_Aint mine = static_cast<MPI_Aint>(bytes);
    std::vector<MPI_Aint> asked(static_cast<std::size_t>(size));
    check(MpiCode{MPI_Allgather(&mine, 1, MPI_AINT, asked.data(), 1, MPI_AINT, comm)});
    for (int rank = 0; rank < size; ++rank) {
      MPI_Aint length = 0;
      int unit = 0;
      void* start = nullptr;
      check(MpiCode{MPI_Win_shared_query(window_, rank, &length, &unit, &start)});
      // Mappings are whole pages, so this rounds alike in all ranks.
      const auto address = (reinterpret_cast<std::uintptr_t>(start) + kPage - 1) / kPage * kPage;
      parts_.emplace_back(reinterpret_cast<std::byte*>(address),
                          static_cast<std::size_t>(asked[static_cast<std::size_t>(rank)]));
    }
    int rank = 0;
    check(MpiCode{MPI_Comm_rank(comm, &rank)});
    std::ranges::fill(part(rank), std::byte{0});   // the owner touches its pages first
  }
  MpiSharedMemory(const MpiSharedMemory&) = delete;
  MpiSharedMemory& operator=(const MpiSharedMemory&) = delete;
  ~MpiSharedMemory() override {
    if (std::uncaught_exceptions() > 0 || !mpi_running()) return;
    MPI_Win_unlock_all(window_);
    MPI_Win_free(&window_);
  }
  std::span<std::byte> part(int rank) const noexcept override { return parts_[static_cast<std::size_t>(rank)]; }

 private:
  static constexpr std::size_t kPage = 4096;

  /// Open MPI waits for ever where the file behind a window does not fit (containers often have a /dev/shm of 64 MB).
  static void check_space(MPI_Comm comm, std::size_t bytes) {
    constexpr const char* kFolder = "/dev/shm";   // where it lies by default
    struct statvfs space {};
    unsigned long long needed = bytes, total = 0, least = 0;
    unsigned long long free = statvfs(kFolder, &space) == 0 ? space.f_bavail * space.f_frsize : ~0ull;
    check(MpiCode{MPI_Allreduce(&needed, &total, 1, MPI_UNSIGNED_LONG_LONG, MPI_SUM, comm)});
    check(MpiCode{MPI_Allreduce(&free, &least, 1, MPI_UNSIGNED_LONG_LONG, MPI_MIN, comm)});
    if (total <= least) return;
    fail(Code::failed_precondition,
         fmt::format("shared memory of {} MiB is needed, {} has {} MiB free: enlarge it (docker run --shm-size=…), or use a "
                     "collective that needs none, as ring", (total >> 20) + 1, kFolder, least >> 20));
  }

  MPI_Win window_ = MPI_WIN_NULL;
  std::vector<std::span<std::byte>> parts_;
};

class MpiTransport final : public Transport, private LibraryCollectives {
 public:
  MpiTransport(std::shared_ptr<MpiComm> comm, std::vector<MessageLimits> limits) : comm_(std::move(comm)), limits_(std::move(limits)) {
    for (const MessageLimits& each : limits_) {
      check(each.largest > 0 && each.quick > 0, Code::invalid_argument, "pieces of messages must be longer than 0 bytes");
    }
    check(MpiCode{MPI_Comm_set_errhandler(comm_->get(), MPI_ERRORS_RETURN)});
    check(MpiCode{MPI_Comm_rank(comm_->get(), &rank_)});
    check(MpiCode{MPI_Comm_size(comm_->get(), &size_)});
    check(limits_.size() == static_cast<std::size_t>(size_), Code::internal, "message limits are one per rank");
    slots_.resize(kSlots);
    for (std::int32_t i = kSlots; i-- > 0;) {
      free_.push_back(i);
      slots_[static_cast<std::size_t>(i)].pieces.reserve(1);
    }
  }

  int rank() const noexcept override { return rank_; }
  int size() const noexcept override { return size_; }
  bool thread_ranks() const noexcept override { return false; }
  std::string why_one_thread() const override {
    const std::string level = Environment::thread_level();
    return level == "multiple" ? "" : fmt::format("MPI grants its threads the level \"{}\", not \"multiple\"", level);
  }
  Request isend(int peer, int tag, const void* data, std::size_t bytes) override;
  Request irecv(int peer, int tag, void* data, std::size_t bytes) override;
  bool test(Request& request) override;
  void abandon(Request& request) noexcept override;
  void retire() noexcept override { comm_->leave_to_finalize(); }
  std::unique_ptr<Transport> subgroup(std::span<const int> members, int id) override;
  std::unique_ptr<Transport> twin() override { return std::make_unique<MpiTransport>(comm_, limits_); }
  std::shared_ptr<SharedMemory> allocate_shared(std::size_t bytes, int) override {
    return std::make_shared<MpiSharedMemory>(comm_->get(), bytes);
  }
  std::unique_ptr<Transport> spawn(const std::string& program, const std::vector<std::string>& words) override;
  bool groups_wait() const noexcept override { return ProgressGate::of_process().occupied(); }
  LibraryCollectives* library() noexcept override { return this; }
  /// Open MPI 4.1 copies a long message between processes of a machine whole, however short the receive is. Pieces below every
  /// transport's eager limit are cut off as they should.
  void expect_wrong_sizes() noexcept override {
    for (MessageLimits& each : limits_) each.quick = each.largest = std::min(each.largest, kAlwaysEager);
  }

 private:
  struct Slot {
    std::vector<MPI_Request> pieces;       // keeps its capacity from use to use
    std::size_t next = 0;                  // pieces before it are done
    int peer = 0;
    int tag = 0;
    std::size_t bytes = 0;
    std::size_t cut = 1;                   // longest piece
    bool receive = false;
  };

  Request start_all_reduce(float* data, std::size_t n) override;
  Request start_all_gather(float* data, std::span<const int> counts, std::span<const int> starts) override;
  void all_reduce(float* data, std::size_t n) override;

  Slot& slot(const Request& request) { return slots_[static_cast<std::size_t>(request.slot())]; }
  Request new_slot(int peer, int tag, std::size_t bytes, bool receive);
  void release(Request& request) noexcept;
  /// Longest piece of a message of so many bytes; both ends find the same.
  [[nodiscard]] std::size_t cut_for(int peer, std::size_t bytes) const {
    const MessageLimits& limits = limits_[static_cast<std::size_t>(peer)];
    return bytes <= kCopied ? std::min(limits.quick, limits.largest) : limits.largest;
  }
  [[nodiscard]] std::size_t piece_bytes(const Slot& s, std::size_t piece) const {
    return std::min(s.cut, s.bytes - piece * s.cut);
  }
  bool test_piece(Request& request, Slot& s);
  [[noreturn]] void fail_size(Request& request, const std::string& came);

  static constexpr std::int32_t kSlots = 256;   // transfers at once that need no allocation
  static constexpr std::size_t kAlwaysEager = 960;
  static constexpr std::size_t kCopied = std::size_t{16} << 20;   // longer messages in quick pieces would cost too much memory

  std::shared_ptr<MpiComm> comm_;              // with its twins
  std::vector<MessageLimits> limits_;          // by peer
  int rank_ = 0;
  int size_ = 1;
  std::vector<Slot> slots_;
  std::vector<std::int32_t> free_;
};

Request MpiTransport::new_slot(int peer, int tag, std::size_t bytes, bool receive) {
  if (free_.empty()) {
    slots_.emplace_back();
    free_.reserve(slots_.size());
    free_.push_back(static_cast<std::int32_t>(slots_.size()) - 1);
  }
  const Request request(free_.back());
  free_.pop_back();
  Slot& s = slot(request);
  s.pieces.clear();
  s.next = 0;
  s.peer = peer;
  s.tag = tag;
  s.bytes = bytes;
  s.receive = receive;
  return request;
}

void MpiTransport::release(Request& request) noexcept {
  free_.push_back(request.slot());
  request.clear();
}

Request MpiTransport::isend(int peer, int tag, const void* data, std::size_t bytes) {
  const Request request = new_slot(peer, tag, bytes, false);
  const auto* from = static_cast<const std::byte*>(data);
  const std::size_t cut = slot(request).cut = cut_for(peer, bytes);
  for (std::size_t done = 0; done == 0 || done < bytes; done += cut) {
    MPI_Request& piece = slot(request).pieces.emplace_back(MPI_REQUEST_NULL);
    const int count = to_int(std::min(cut, bytes - done));
    check(MpiCode{MPI_Isend(from + done, count, MPI_BYTE, peer, tag, comm_->get(), &piece)});
  }
  return request;
}

Request MpiTransport::irecv(int peer, int tag, void* data, std::size_t bytes) {
  const Request request = new_slot(peer, tag, bytes, true);
  auto* to = static_cast<std::byte*>(data);
  const std::size_t cut = slot(request).cut = cut_for(peer, bytes);
  for (std::size_t done = 0; done == 0 || done < bytes; done += cut) {
    MPI_Request& piece = slot(request).pieces.emplace_back(MPI_REQUEST_NULL);
    const int count = to_int(std::min(cut, bytes - done));
    check(MpiCode{MPI_Irecv(to + done, count, MPI_BYTE, peer, tag, comm_->get(), &piece)});
  }
  return request;
}

bool MpiTransport::test_piece(Request& request, Slot& s) {
  const ProgressGate::Passage passage(ProgressGate::of_process());
  if (!passage) return false;
  int done = 0;
  MPI_Status status;
  const int code = MPI_Test(&s.pieces[s.next], &done, &status);
  if (code != MPI_SUCCESS) {
    int kind = MPI_SUCCESS;
    MPI_Error_class(code, &kind);
    if (kind == MPI_ERR_TRUNCATE) fail_size(request, "more");
    check(MpiCode{code});
  }
  if (done == 0) return false;
  if (s.receive) {
    int came = 0;
    check(MpiCode{MPI_Get_count(&status, MPI_BYTE, &came)});
    if (static_cast<std::size_t>(came) != piece_bytes(s, s.next)) {
      fail_size(request, std::to_string(s.next * s.cut + static_cast<std::size_t>(came)));
    }
  }
  ++s.next;
  return true;
}

void MpiTransport::fail_size(Request& request, const std::string& came) {
  const Slot& s = slot(request);
  const std::string text = fmt::format("rank {} sent {} bytes where rank {} expected {} (tag {})", s.peer, came, rank_,
                                       s.bytes, s.tag);
  abandon(request);
  fail(Code::data_loss, text);
}

bool MpiTransport::test(Request& request) {
  if (!request.active()) return true;
  Slot& s = slot(request);
  while (s.next < s.pieces.size()) {
    if (!test_piece(request, s)) return false;
  }
  release(request);
  return true;
}

void MpiTransport::abandon(Request& request) noexcept {
  if (!request.active()) return;
  retire();
  Slot& s = slot(request);
  for (MPI_Request& piece : s.pieces) {
    if (piece == MPI_REQUEST_NULL || !mpi_running()) continue;
    if (s.receive) {
      MPI_Cancel(&piece);                  // local: nobody else has to take part
    }
    MPI_Request_free(&piece);
  }
  release(request);
}

std::unique_ptr<Transport> MpiTransport::subgroup(std::span<const int> members, int id) {
  MPI_Group all = MPI_GROUP_NULL, some = MPI_GROUP_NULL;
  MPI_Comm comm = MPI_COMM_NULL;
  check(MpiCode{MPI_Comm_group(comm_->get(), &all)});
  const int made = MPI_Group_incl(all, to_int(members.size()), members.data(), &some);
  MPI_Group_free(&all);
  check(MpiCode{made});
  const int created = MPI_Comm_create_group(comm_->get(), some, id, &comm);
  MPI_Group_free(&some);
  check(MpiCode{created});
  std::vector<MessageLimits> limits;
  for (const int member : members) limits.push_back(limits_[static_cast<std::size_t>(member)]);
  return std::make_unique<MpiTransport>(std::make_shared<MpiComm>(comm), std::move(limits));
}

std::unique_ptr<Transport> MpiTransport::spawn(const std::string& program, const std::vector<std::string>& words) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));   // MPI only reads them
  arguments.push_back(nullptr);
  MPI_Comm inter = MPI_COMM_NULL;
  int error = MPI_SUCCESS;
  MPI_Info info = MPI_INFO_NULL;
  check(MpiCode{MPI_Info_create(&info)});
  check(MpiCode{MPI_Info_set(info, "wdir", std::filesystem::current_path().c_str())});   // names on the command line are relative to it
  constexpr int kRoot = 0;                   // it alone speaks with the new process in there
  std::optional<ProgressGate::Spawning> spawning;
  if (rank_ == kRoot) spawning.emplace(ProgressGate::of_process());
  const int code = MPI_Comm_spawn(program.c_str(), arguments.data(), 1, info, kRoot, comm_->get(), &inter, &error);
  MPI_Info_free(&info);
  if (code != MPI_SUCCESS || error != MPI_SUCCESS) {
    fail(Code::unavailable,
         fmt::format("the launcher did not start another process of {}: is there a slot for it? (mpirun --oversubscribe)", program));
  }
  std::size_t largest = 0;
  for (const MessageLimits& limits : limits_) largest = std::max(largest, limits.largest);
  if (spawning) spawning->begin_wait();      // if the new process dies in there, this never ends
  return merge_transport(inter, false, largest);
}

Request MpiTransport::start_all_reduce(float* data, std::size_t n) {
  const Request request = new_slot(-1, 0, n * sizeof(float), false);
  MPI_Request& piece = slot(request).pieces.emplace_back(MPI_REQUEST_NULL);
  check(MpiCode{MPI_Iallreduce(MPI_IN_PLACE, data, to_int(n), MPI_FLOAT, MPI_SUM, comm_->get(), &piece)});
  return request;
}

Request MpiTransport::start_all_gather(float* data, std::span<const int> counts, std::span<const int> starts) {
  const Request request = new_slot(-1, 0, 0, false);
  MPI_Request& piece = slot(request).pieces.emplace_back(MPI_REQUEST_NULL);
  check(MpiCode{MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data, counts.data(), starts.data(), MPI_FLOAT,
                                comm_->get(), &piece)});
  return request;
}

void MpiTransport::all_reduce(float* data, std::size_t n) {
  check(MpiCode{MPI_Allreduce(MPI_IN_PLACE, data, to_int(n), MPI_FLOAT, MPI_SUM, comm_->get())});
}

}  // namespace

std::unique_ptr<Transport> make_mpi_transport(MpiComm comm, std::vector<MessageLimits> limits) {
  return std::make_unique<MpiTransport>(std::make_shared<MpiComm>(std::move(comm)), std::move(limits));
}

}  // namespace cohort
