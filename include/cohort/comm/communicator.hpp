#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "cohort/base/context.hpp"
#include "cohort/comm/node_map.hpp"
#include "cohort/comm/transport.hpp"
#include "cohort/comm/transport_decorator.hpp"
#include "cohort/watch/membership.hpp"
#include "cohort/watch/waiting.hpp"

namespace cohort {

/// A group of ranks: who am I, how many are we, who shares a machine; owns the transport of the group. Collectives of control
/// data are functions in `comm/control.hpp`; gradients go through a `Collective`. One thread at a time, but for `activity()`
/// and `cancel_flag()`.
class Communicator {
 public:
  Communicator(std::unique_ptr<Transport> transport, Context context, NodeMap nodes,
               std::shared_ptr<CancelFlag> cancel = std::make_shared<CancelFlag>());
  Communicator(Communicator&&) noexcept = default;
  Communicator& operator=(Communicator&&) noexcept = default;
  ~Communicator() = default;

  [[nodiscard]] int rank() const noexcept { return transport_->rank(); }
  [[nodiscard]] int size() const noexcept { return transport_->size(); }
  /// The one rank of this group that decides, prints and writes for all of it: rank 0.
  [[nodiscard]] bool is_root() const noexcept { return rank() == 0; }
  [[nodiscard]] Transport& transport() noexcept { return *transport_; }
  [[nodiscard]] const Transport& transport() const noexcept { return *transport_; }

  /// Log, clock and stop flag of this rank. `context().rank` is the rank in the whole job, also in a subgroup: for messages,
  /// and for what is one for the whole job (`membership`, faults, who is watched). What a group does must not depend on it.
  [[nodiscard]] const Context& context() const noexcept { return context_; }
  [[nodiscard]] const NodeMap& nodes() const noexcept { return nodes_; }
  /// Pretends another placement, the same on all ranks: for tests and for one replica of a hierarchy.
  void force_nodes(NodeMap nodes) { nodes_ = std::move(nodes); }

  /// The longest that any wait of this communicator may last, in seconds (default 60); subgroups inherit it.
  [[nodiscard]] double timeout() const noexcept { return timeout_; }
  void set_timeout(double seconds);

  /// What this rank waits for here, readable from any thread.
  [[nodiscard]] Activity& activity() const noexcept { return *activity_; }
  /// The same of all communicators of this rank, and how far the rank has come. Any thread.
  [[nodiscard]] const std::shared_ptr<RankActivity>& rank_activity() const noexcept { return rank_activity_; }
  /// The rank in the whole job that `rank` of this communicator has, for messages.
  [[nodiscard]] int job_rank(int rank) const;
  /// Ends the waits of this rank, in this communicator and in all made from it. Any thread.
  [[nodiscard]] const std::shared_ptr<CancelFlag>& cancel_flag() const noexcept { return cancel_; }

  /// Who may be lost, and who has been. Any thread.
  [[nodiscard]] const std::shared_ptr<Membership>& membership() const noexcept { return membership_; }

  /// Puts the decorator between this communicator and its transport, and those of all communicators made from it afterwards; once,
  /// while nothing is under way.
  void decorate(std::shared_ptr<TransportDecorator> decorator);
  /// This rank begins a step: `rank_activity` says so, then the decorator hears of it, and may throw.
  void begin_step(std::int64_t step);

  /// Before any communicator is made from this one: whoever notices losses has made it.
  void share(std::shared_ptr<Membership> membership) { membership_ = std::move(membership); }

  /// The same group for another thread of this rank, without a word to the others. The two threads must receive with different
  /// tags, and only one of them may take part in what is collective.
  [[nodiscard]] Communicator twin();
  /// Collective. Ranks with the same color >= 0 form a group, ordered by (key, rank).
  [[nodiscard]] Communicator split(int color, int key = 0);
  /// Collective. The same ranks with traffic of their own: for another thread, or another subsystem.
  [[nodiscard]] Communicator duplicate();
  /// This rank alone, without a word to the others.
  [[nodiscard]] Communicator alone();
  /// Collective. Starts one more process of this program, with this one's command line, in place of rank `lost` of the job,
  /// and returns this group's ranks and, as the last one, the new process, which gets its end from `Environment::parents`.
  /// From here on the membership has replaced that rank. Takes as long as the process does to start MPI, without a
  /// deadline; needs TCP (`OMPI_MCA_btl`), also within a machine. Error unavailable where the launcher cannot do it
  /// (`Context::launches`), or has no room for another process; deadline_exceeded if the new process starts, but does not come to meet the others;
  /// Where it comes when it is not `wanted` any more, which is asked in this thread, it is lost at once.
  [[nodiscard]] Communicator spawn(int lost, const std::function<bool()>& wanted = [] { return true; });
  /// After `spawn`: from here on the watchdog hears of this communicator's waits. Before, the new process may die on its way, and
  /// whoever has started it gives it up.
  void be_watched() { activity_ = rank_activity_->add(); }
  /// Collective with `spawn`: the new process's end, whose context says which rank it is.
  [[nodiscard]] static Communicator join(std::unique_ptr<Transport> transport, Context context);

  /// Collective. Memory of one machine that all ranks here can reach; Error failed_precondition if they are on several.
  [[nodiscard]] std::shared_ptr<SharedMemory> allocate_shared(std::size_t bytes);

  /// Memory that the collectives of control data keep between two calls, so that a step allocates nothing.
  [[nodiscard]] std::vector<std::byte>& scratch() noexcept { return scratch_; }

  /// One bounded wait: polls `done()` and yields the core. `status()` says what is waited for; it is published in
  /// `activity()`, and named by Error deadline_exceeded after `timeout()`. Error cancelled when the cancel flag is set.
  template <class Status, class Done>
    requires std::is_invocable_r_v<WaitStatus, Status>
  void wait(Status&& status, Done&& done) {
    if (done()) return;
    Wait guard(*this);
    while (!done()) {
      guard.pause();
      if (guard.due()) guard.look(status());
    }
  }
  template <class Done>
  void wait(const WaitStatus& status, Done&& done) {
    wait([&] { return status; }, done);
  }

 private:
  class Wait {
   public:
    explicit Wait(const Communicator& communicator);
    ~Wait();
    void pause();                                                       ///< throws if the flag is set
    [[nodiscard]] bool due() noexcept { return (polls_++ & 63) == 0; }
    void look(WaitStatus status);                                       ///< publishes; throws past the deadline

   private:
    const Communicator& communicator_;
    Backoff backoff_;
    double since_, last_look_;
    unsigned polls_ = 0;
  };

  [[nodiscard]] Communicator make_group(const std::vector<int>& members, int id);
  void meet(std::vector<int> job_ranks, const std::function<bool()>& wanted = [] { return true; });
  [[nodiscard]] Communicator related(std::unique_ptr<Transport> transport, NodeMap nodes);

  std::unique_ptr<Transport> transport_;
  Context context_;
  NodeMap nodes_;
  std::shared_ptr<CancelFlag> cancel_;
  std::shared_ptr<Membership> membership_ = std::make_shared<Membership>();
  std::shared_ptr<RankActivity> rank_activity_ = std::make_shared<RankActivity>();
  std::shared_ptr<Activity> activity_ = rank_activity_->add();
  std::shared_ptr<TransportDecorator> decorator_;   // may be null
  std::vector<int> job_ranks_;   // empty: this is the whole job
  double timeout_ = 60;
  std::vector<std::byte> scratch_;
  int groups_ = 0;   // subgroups made so far: the same on all ranks, so it names the next one
};

}  // namespace cohort
