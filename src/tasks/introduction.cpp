#include "cohort/comm/control.hpp"
#include "tasks/introduction.hpp"

#include <cstring>
#include <span>
#include <vector>

namespace cohort {

Introduction::Introduction(const Run& run, const Parameters& kept, int threads)
    : directory_(run.out.directory.path.string()), beat_(run.beat()), threads_(threads) {
  for (const Parameters::Other& other : kept.others()) {
    const std::vector<float> values = other.value.to_vector<float>();
    others_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  }
}

void Introduction::share(Communicator& joined) {
  broadcast(joined, directory_, 0);
  broadcast_values(joined, std::span(&beat_, 1), 0);
  broadcast_values(joined, std::span(&threads_, 1), 0);
  broadcast(joined, others_, 0);
  barrier(joined);                          // when one of the tasks is through, all of them have it
}

void Introduction::give_others(const Parameters& parameters) const {
  std::size_t bytes = 0;
  for (const Parameters::Other& other : parameters.others()) bytes += static_cast<std::size_t>(other.value.elements()) * sizeof(float);
  check(bytes == others_.size(), Code::failed_precondition, "this process has built another model than the run that it is to join: was the job file changed?");
  const char* from = others_.data();
  for (const Parameters::Other& other : parameters.others()) {
    std::vector<float> values(static_cast<std::size_t>(other.value.elements()));
    std::memcpy(values.data(), from, values.size() * sizeof(float));
    other.value.copy_from(Tensor::of(other.value.shape(), values));
    from += values.size() * sizeof(float);
  }
}

}  // namespace cohort
