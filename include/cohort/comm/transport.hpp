#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace cohort {

/// A started transfer: a ticket of the transport that gave it. Cheap to copy; `Transport::test` clears it when done.
class Request {
 public:
  Request() = default;
  explicit Request(std::int32_t slot) noexcept : slot_(slot) {}
  [[nodiscard]] bool active() const noexcept { return slot_ >= 0; }
  [[nodiscard]] std::int32_t slot() const noexcept { return slot_; }
  void clear() noexcept { slot_ = -1; }

 private:
  std::int32_t slot_ = -1;
};

/// Memory that all ranks of a transport can read and write, because they run on one machine. Each rank owns one part.
/// The part of every rank begins at a multiple of 64 bytes and is zero at first.
class SharedMemory {
 public:
  virtual ~SharedMemory() = default;
  [[nodiscard]] virtual std::span<std::byte> part(int rank) const noexcept = 0;
};

/// The collectives of the library under a transport, where it has some: the yardstick for our own.
class LibraryCollectives {
 public:
  virtual ~LibraryCollectives() = default;
  /// Collective. Begins `data[i] := sum over ranks` in place. All ranks must start their calls in the same order.
  [[nodiscard]] virtual Request start_all_reduce(float* data, std::size_t n) = 0;
  /// Collective. Begins an all-gather in place: rank r owns `counts[r]` floats at `data + starts[r]`. Counts and starts
  /// below 2^31; both arrays must live until the request is done.
  [[nodiscard]] virtual Request start_all_gather(float* data, std::span<const int> counts, std::span<const int> starts) = 0;
  /// Collective. The sum in one blocking call without a deadline: only for measuring.
  virtual void all_reduce(float* data, std::size_t n) = 0;
};

/// Moves bytes between two ranks of a group. Messages between two ranks with the same tag arrive in the order in which
/// they were started; receives are matched in the order in which they were posted. A send may stay unfinished until the
/// receiver has asked for it. One thread at a time; give each thread that talks a subgroup of its own.
class Transport {
 public:
  virtual ~Transport() = default;
  [[nodiscard]] virtual int rank() const noexcept = 0;
  [[nodiscard]] virtual int size() const noexcept = 0;
  /// True where the ranks are threads of one process.
  [[nodiscard]] virtual bool thread_ranks() const noexcept = 0;
  /// Empty where threads of a rank may talk at the same time, each over a transport of its own; else why not, for people.
  [[nodiscard]] virtual std::string why_one_thread() const = 0;

  /// Begins to send; `data` must stay as it is until the request has been tested true. 0 <= tag <= 30000. Any size, 0
  /// included; what the library below cannot move at once is cut and joined here.
  [[nodiscard]] virtual Request isend(int peer, int tag, const void* data, std::size_t bytes) = 0;
  [[nodiscard]] virtual Request irecv(int peer, int tag, void* data, std::size_t bytes) = 0;

  /// Never blocks. True once the transfer is done (then the request is cleared), and for a cleared request.
  /// Error data_loss if the message has another size than the receive asked for.
  [[nodiscard]] virtual bool test(Request& request) = 0;

  /// Gives up a transfer and clears the request. A receive writes nothing afterwards. A send that the library has already
  /// begun cannot be called back: keep its memory, or end the process. Implies `retire`.
  virtual void abandon(Request& request) noexcept = 0;

  /// Says that messages of this group may still be on their way that nobody will receive, so its name must never be given
  /// to another group (which would receive them).
  virtual void retire() noexcept = 0;

  /// Collective over `members` only (ranks of this transport, in the order of their ranks in the new group). `id`, 0 to
  /// 30000, must be the same on all of them and not be in use by another call at the same time.
  [[nodiscard]] virtual std::unique_ptr<Transport> subgroup(std::span<const int> members, int id) = 0;

  /// The same rank of the same group for another thread. The two must receive with different tags.
  [[nodiscard]] virtual std::unique_ptr<Transport> twin() = 0;

  /// Collective. All ranks must be on one machine; `bytes` may differ between ranks.
  [[nodiscard]] virtual std::shared_ptr<SharedMemory> allocate_shared(std::size_t bytes, int id) = 0;

  /// To be called on all ranks alike, while nothing is under way: messages may get lost or come twice from here on, in this
  /// group and in those made from it, so that a receive may meet any other message; it must still end with data_loss.
  virtual void expect_wrong_sizes() noexcept {}

  /// Collective. Starts one more process, and gives the ranks of this transport with it as the last one. Has no deadline of
  /// its own. Error failed_precondition where ranks are no processes, unavailable where the launcher cannot.
  [[nodiscard]] virtual std::unique_ptr<Transport> spawn(const std::string& program, const std::vector<std::string>& words);

  /// True where a thread that called `spawn` waits in it for a process that may have died, and `subgroup` and `spawn` would wait
  /// for that thread.
  [[nodiscard]] virtual bool groups_wait() const noexcept { return false; }

  /// Null where the library has no collectives.
  [[nodiscard]] virtual LibraryCollectives* library() noexcept { return nullptr; }
};

/// A transfer with an owner: reusable, gives itself up when it goes out of scope unfinished.
class Transfer {
 public:
  Transfer() = default;
  explicit Transfer(Transport& transport) noexcept : transport_(&transport) {}
  Transfer(Transfer&& other) noexcept;
  Transfer& operator=(Transfer&& other) noexcept;
  ~Transfer() { abandon(); }

  void send(int peer, int tag, const void* data, std::size_t bytes);
  void receive(int peer, int tag, void* data, std::size_t bytes);
  [[nodiscard]] bool done() { return !request_.active() || transport_->test(request_); }   ///< never blocks
  [[nodiscard]] int peer() const noexcept { return peer_; }
  void abandon() noexcept;

 private:
  Transport* transport_ = nullptr;
  Request request_;
  int peer_ = -1;
};

}  // namespace cohort
