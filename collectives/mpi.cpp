// mpi: the library's own all-reduce and all-gather, in pieces of 1 MiB: the yardstick. The order of its sums is the
// library's choice and may change with size and rank count, so runs repeat bit for bit only with the same library, ranks
// and sizes; that all ranks get the same bits is what the MPI standard recommends and Open MPI does.
// Works run one after the other: MPI matches non-blocking collectives by the order in which ranks start them.

#include <algorithm>
#include <vector>

#include "cohort/comm/collective.hpp"

namespace cohort {
namespace {

class MpiWork final : public Work {
 public:
  MpiWork(Collective& collective, Operation operation, const Bucket& bucket)
      : Work(collective, operation, bucket) {
    check(bucket.n < (std::size_t{1} << 31), Code::invalid_argument, "collective 'mpi': a bucket of 2^31 elements or more");
    for (int rank = 0; rank < size(); ++rank) {
      counts_.push_back(static_cast<int>(block(rank).size));
      starts_.push_back(static_cast<int>(block(rank).begin));
    }
  }

 private:
  Progress run() override {
    Transport& transport = communicator().transport();
    Pending pending(transport);
    if (operation() == Operation::all_gather) {
      pending.request = transport.library()->start_all_gather(bucket().data, counts_, starts_);
      co_await until([&] { return transport.test(pending.request); });
      co_return;
    }
    for (std::size_t begin = 0; begin < bucket().n; begin += kPiece) {   // reduce_scatter: more than asked for, same block
      pending.request = transport.library()->start_all_reduce(bucket().data + begin, std::min(kPiece, bucket().n - begin));
      co_await until([&] { return transport.test(pending.request); });
    }
  }

  struct Pending {
    explicit Pending(Transport& t) : transport(t) {}
    ~Pending() { transport.abandon(request); }
    Transport& transport;
    Request request;
  };

  static constexpr std::size_t kPiece = (1u << 20) / sizeof(float);
  std::vector<int> counts_, starts_;
};

class Mpi final : public Collective {
 public:
  using Collective::Collective;

 protected:
  std::unique_ptr<Work> make_work(Operation operation, const Bucket& bucket) override {
    return std::make_unique<MpiWork>(*this, operation, bucket);
  }
  bool one_at_a_time() const noexcept override { return true; }
};

const Registered<CollectiveType> mpi{"mpi", {
    .summary = "the MPI library's all-reduce in pieces: the yardstick",
    .make = [](Communicator& c, const CollectiveOptions& o) -> std::unique_ptr<Collective> {
      return std::make_unique<Mpi>(c, o);
    },
    .thread_ranks = false,
}};

}  // namespace
}  // namespace cohort
