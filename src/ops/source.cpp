// Nodes whose memory comes from elsewhere: fed, kept in the session, or part of the graph.
#include "cohort/graph/graph.hpp"

namespace cohort {
namespace {

std::vector<Signature> from_attrs(const Inference& c) {
  c.expect_inputs(0);
  return {{c.attrs.get("dtype", DType::float32), c.attrs.get<Shape>("shape")}};
}

const Registered<Op> placeholder{"Placeholder", {.infer = from_attrs, .stateful = true, .source = true}};
const Registered<Op> variable{"Variable", {.infer = from_attrs, .stateful = true, .source = true}};
const Registered<Op> constant{
    "Constant",
    {.infer = [](const Inference& c) -> std::vector<Signature> {
       c.expect_inputs(0);
       const Tensor& value = c.attrs.get<Tensor>("value");
       return {{value.dtype(), value.shape()}};
     },
     .source = true}};

}  // namespace
}  // namespace cohort
