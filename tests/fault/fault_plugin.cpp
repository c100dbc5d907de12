// A plug-in whose job and model do wrong on one rank at a given step: fault_test.py watches how a job of several ranks ends.
#include <memory>
#include <string_view>

#include "cohort/comm/collective.hpp"
#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"
#include "cohort/job/job.hpp"
#include "fault/fault.hpp"

namespace cohort {
namespace {

using testing::Fault;
using testing::print_line;

// ---- a job: a training loop's exchange without the training

class ExchangeLoop {
 public:
  ExchangeLoop(Communicator& world, Section& config) : world_(world), fault_(config) {
    config.bind("steps", steps_, "");
    config.bind("buckets", buckets_, "");
    config.bind("elements", elements_, "of each bucket");
    config.bind("pause", pause_, "seconds of computing in each step");
    options_ = CollectiveOptions(config.child("exchange"));
    config.finish();
    print_line(fmt::format("pid {} {}", world.rank(), getpid()));
    collective_ = make_collective(world, options_);
    memory_.resize(static_cast<std::size_t>(buckets_ * elements_));
    for (int b = 0; b < buckets_; ++b) works_.push_back(&collective_->prepare(Operation::all_reduce, bucket(b)));
    prepare_mismatch();
  }

  int run() {
    for (std::int64_t step = 0; step < steps_; ++step) {
      world_.rank_activity()->arrive({.step = step});
      world_.context().clock->sleep(pause_);
      for (int b = 0; b < buckets_; ++b) {
        if (fault_.due(world_.rank(), step, b)) {
          fault_.happen();
          if (fault_.kind == "leave") return kExitDone;
        }
        start(step, b);
      }
      for (Work* work : works_) work->wait();
    }
    print_line(fmt::format("done {}", world_.rank()));
    return kExitDone;
  }

 private:
  [[nodiscard]] bool mine() const { return fault_.rank == world_.rank(); }
  [[nodiscard]] Bucket bucket(int b) {
    return {.id = b, .data = memory_.data() + b * elements_, .n = static_cast<std::size_t>(elements_)};
  }
  /// One more work for the bucket, on all ranks since preparing is collective; on one of them it is another one.
  void prepare_mismatch() {
    Bucket wrong = bucket(fault_.bucket);
    if (mine() && fault_.kind == "count") --wrong.n;
    if (mine() && fault_.kind == "dtype") wrong.dtype = DType::bfloat16;
    const bool gather = mine() && fault_.kind == "operation";
    wrong_ = &collective_->prepare(gather ? Operation::all_gather : Operation::all_reduce, wrong);
  }
  void start(std::int64_t step, int b) {
    const bool now = step == fault_.step;
    if (now && b == fault_.bucket) works_[static_cast<std::size_t>(b)] = wrong_;
    if (now && mine() && fault_.kind == "order") b = buckets_ - 1 - b;
    const bool later = now && mine() && fault_.kind == "step" && b == fault_.bucket;
    works_[static_cast<std::size_t>(b)]->start(later ? step + 1 : step);
  }

  Communicator& world_;
  Fault fault_;
  std::int64_t steps_ = 40;
  int buckets_ = 4;
  std::int64_t elements_ = 5000;
  double pause_ = 0.01;
  CollectiveOptions options_;
  std::vector<float> memory_;
  std::unique_ptr<Collective> collective_;
  std::vector<Work*> works_;
  Work* wrong_ = nullptr;
};

const Registered<JobType> job{"exchange", {.summary = "exchanges buckets, and does wrong", .argument = JobArgument::job_file,
                                           .run = [](Communicator& world, JobArguments& arguments) {
                                             return ExchangeLoop(world, arguments.config).run();
                                           }}};

// ---- a model with a trap in it, forward and backward

int rank_of_this_process() {   // a kernel knows no ranks, and rightly so; this one asks the launcher
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  return rank == nullptr ? 0 : std::atoi(rank);
}

class TrapKernel final : public Kernel {
 public:
  explicit TrapKernel(const NodeInfo& info) : kind_(info.attrs.get<std::string>("kind")), step_(info.attrs.get<std::int64_t>("step")) {
    armed_ = info.attrs.get<std::int64_t>("rank") == rank_of_this_process();
  }
  void run(KernelContext& c) override {
    if (armed_ && kind_ != "none" && c.options().step == step_) {
      Section section;
      Fault fault(section);
      fault.kind = kind_;
      fault.happen();
    }
    std::copy_n(c.in(0).data<float>(), c.out().elements(), c.out().data<float>());
  }

 private:
  std::string kind_;
  std::int64_t step_;
  bool armed_ = false;
};

const Registered<Op> trap_op{"Trap", {.infer = same_as_first,
                                      .gradient = [](const Backward& b) -> std::vector<Value> {
                                        Attrs attrs = b.attrs;
                                        if (attrs.get<bool>("backward")) attrs.set("kind", b.attrs.get<std::string>("later"));
                                        return {b.graph.add("Trap", {b.dy()}, attrs)};
                                      },
                                      .stateful = true}};
const RegisteredKernel trap_kernel{"Trap", "CPU", make_kernel<TrapKernel>};

struct TrappedModel {
  Fault fault;
  bool backward = false, differs = false;

  explicit TrappedModel(Section& s) : fault(s) {
    s.bind("backward", backward, "the trap is in the backward pass");
    s.bind("differs", differs, "the model is another one on that rank");
    print_line(fmt::format("pid {} {}", rank_of_this_process(), getpid()));
  }

  Model operator()(Graph& graph, const Batch& batch) const {
    const int more = differs && rank_of_this_process() == fault.rank ? 1 : 0;
    Value h = nn::dense(flatten(batch["image"]), 16 + more, "one", nn::Activation::relu);
    if (batch.training) {
      h = graph.add("Trap", {h}, {{"kind", backward ? std::string("none") : fault.kind}, {"later", fault.kind}, {"step", fault.step},
                                  {"rank", fault.rank}, {"backward", backward}});
    }
    return classifier(batch, nn::dense(h, 10, "two"));
  }
};

const Registered<ModelType> model{"trapped", {.make = [](Section& s) -> ModelBuilder { return TrappedModel(s); }}};

}  // namespace
}  // namespace cohort
