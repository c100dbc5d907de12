#include "cohort/base/library.hpp"
#include "cohort/comm/environment.hpp"

namespace cohort {
namespace {

const Registered<Library> library{"MPI", {"messages between ranks", Environment::library_version}};

}  // namespace
}  // namespace cohort
